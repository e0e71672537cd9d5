// Answers requests, a line of JSON each, on standard input with a line of JSON on standard output.
// {"id", "method", ...} -> {"id", "result"} or {"id", "error"}. Nothing is read from files or the network.
'use strict';
const readline = require('readline');

const { formula } = require('./mathjax.js');

let molecules, echarts;
const svgOf = (html) => {
  const found = html.match(/<svg[\s\S]*<\/svg>/);
  if (!found) throw new Error('no picture came out');
  return found[0];
};

// SmilesDrawer draws lots: the same request must give the same picture.
const seedRandom = () => {
  let state = 1;
  Math.random = () => {
    state = (state * 16807) % 2147483647;
    return (state - 1) / 2147483646;
  };
};

const methods = {
  // Formulas, each [TeX, display], where the unit ex is so many pixels.
  formulas: ({ formulas, ex }) =>
    formulas.map(([tex, display]) => {
      try {
        return formula(tex, display, ex);
      } catch (err) {
        return { error: String((err && err.message) || err).split('\n')[0] };
      }
    }),
  // A structural formula by SmilesDrawer, as mathpix-markdown-it shows <smiles>...</smiles>; setting up its markdown
  // for every molecule would take four times as long.
  molecule: ({ smiles }) => {
    molecules = molecules || require('mathpix-markdown-it/lib/markdown/md-chemistry/chemistry-drawer.js').ChemistryDrawer;
    return svgOf(molecules.drawSvgSync(smiles, '1', {}, false));
  },
  // A chart from its ECharts option, which is JSON and so holds no function.
  chart: ({ option, width, height }) => {
    echarts = echarts || require('echarts');
    const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
    try {
      chart.setOption({ ...option, animation: false });
      return chart.renderToSVGString();
    } finally {
      chart.dispose();
    }
  },
};

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  let id = null;
  let answer;
  try {
    const request = JSON.parse(line);
    id = request.id;
    seedRandom();
    answer = { id, result: methods[request.method](request) };
  } catch (err) {
    answer = { id, error: String((err && err.message) || err).split('\n')[0] };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}).on('close', () => process.exit(0));
