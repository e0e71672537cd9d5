// MathJax as mathpix-markdown-it sets it up, made faster, and its pictures as lists of glyphs instead of SVG text.
'use strict';

// MathJax keeps the attributes of a node as a chain of prototypes made for it alone, and makes every node through three
// copies of its arguments. Neither is fast in V8: these do the same (tests compare the pictures) in two thirds of the
// time. They must be in place before the rest of MathJax is loaded.
const own = Object.prototype.hasOwnProperty;
class Attributes {
  constructor(defaults, global) {
    this.global = global;
    this.defaults = defaults;
    this.inherited = {};
    this.attributes = {};
  }
  set(name, value) { this.attributes[name] = value; }
  setList(list) { Object.assign(this.attributes, list); }
  get(name) {
    let value = this.attributes[name];
    if (value === undefined) value = this.getInherited(name);
    return value === '_inherit_' ? this.global[name] : value;
  }
  getExplicit(name) { return this.attributes[name]; }
  getList(...names) { return Object.fromEntries(names.map((name) => [name, this.get(name)])); }
  setInherited(name, value) { this.inherited[name] = value; }
  getInherited(name) {
    const value = this.inherited[name];
    return value === undefined ? this.getDefault(name) : value;
  }
  getDefault(name) {
    const value = this.defaults[name];
    return value === undefined ? this.global[name] : value;
  }
  isSet(name) { return own.call(this.attributes, name) || own.call(this.inherited, name); }
  hasDefault(name) { return name in this.defaults || name in this.global; }
  getExplicitNames() { return Object.keys(this.attributes); }
  getInheritedNames() { return Object.keys(this.inherited); }
  getDefaultNames() { return Object.keys(this.defaults); }
  getGlobalNames() { return Object.keys(this.global); }
  getAllAttributes() { return this.attributes; }
  getAllInherited() { return this.inherited; }
  getAllDefaults() { return this.defaults; }
  getAllGlobals() { return this.global; }
}

const load = () => {
  require('mathjax-full/js/core/MmlTree/Attributes.js').Attributes = Attributes;
  const { AbstractFactory } = require('mathjax-full/js/core/Tree/Factory.js');
  AbstractFactory.prototype.create = function (kind, ...rest) {
    return (this.node[kind] || this.node[this.defaultKind])(...rest);
  };
  AbstractFactory.prototype.setNodeClass = function (kind, Node) {
    this.nodeMap.set(kind, Node);
    this.node[kind] = (...rest) => new Node(this, ...rest);
  };
  const { AbstractWrapperFactory } = require('mathjax-full/js/core/Tree/WrapperFactory.js');
  AbstractWrapperFactory.prototype.wrap = function (node, ...rest) { return this.create(node.kind, node, ...rest); };
  const { NodeFactory } = require('mathjax-full/js/input/tex/NodeFactory.js');
  NodeFactory.prototype.create = function (kind, ...rest) {
    const node = (this.factory[kind] || this.factory.node)(this, ...rest);
    if (kind === 'node') this.configuration.addNode(rest[0], node);
    return node;
  };
  const { MathJaxConfigure } = require('mathpix-markdown-it/lib/mathjax/mathjax.js');
  const configured = new MathJaxConfigure();
  configured.changeHandler(false, false); // no MathML beside the picture
  return { adaptor: configured.adaptor, document: configured.mDocTeX };
};

// TeX -> the container of an <svg>. Throws what MathJax refuses.
let mathjax;
const convert = (tex, display) => {
  mathjax = mathjax || load();
  return mathjax.document.convert(tex, { display, em: 16, ex: 8, containerWidth: 1200, lineWidth: 100000, scale: 1 });
};

const multiply = ([A, B, C, D, E, F], [a, b, c, d, e, f]) =>
  [A * a + C * b, B * a + D * b, A * c + C * d, B * c + D * d, A * e + C * f + E, B * e + D * f + F];
const numbers = (text) => text.match(/[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?/gi).map(Number);
const transformed = (text) => {
  let matrix = [1, 0, 0, 1, 0, 0];
  for (const [, name, inside] of text.matchAll(/(\w+)\s*\(([^)]*)\)/g)) {
    const [x, y] = numbers(inside);
    if (name === 'translate') matrix = multiply(matrix, [1, 0, 0, 1, x, y || 0]);
    else if (name === 'scale') matrix = multiply(matrix, [x, 0, 0, y === undefined ? x : y, 0, 0]);
    else throw new Error(`a transform ${name}`);
  }
  return matrix;
};

// What a mark may tell besides data-...; anything else (text, colours, frames) goes the way of all SVG.
const PLAIN = {
  g: new Set(['transform']),
  path: new Set(['d', 'transform']),
  rect: new Set(['x', 'y', 'width', 'height', 'transform']),
  svg: new Set(['x', 'y', 'width', 'height', 'viewBox']),
};
const INK = { stroke: 'currentColor', fill: 'currentColor', 'stroke-width': '0' }; // of the outermost <g>
const plain = ({ kind, attributes }) =>
  kind in PLAIN && Object.keys(attributes).every(
    (name) => PLAIN[kind].has(name) || name.startsWith('data-') || String(attributes[name]) === INK[name]);

// A formula as {width, height, base, outlines, clips, marks}, in pixels: a mark is [outline, clips, matrix], the first two
// by number, a clip [outline, matrix]. Or as {svg} when it holds more than glyphs and rules.
const formula = (tex, display, ex) => {
  const root = convert(tex, display).children.find((child) => child.kind === 'svg');
  const [width, height] = [root.attributes.width, root.attributes.height].map((length) => parseFloat(length) * ex);
  const depth = /vertical-align:\s*([-\d.]+)/.exec(root.attributes.style || '');
  const box = numbers(root.attributes.viewBox);
  const whole = [width / box[2], 0, 0, height / box[3], (-box[0] * width) / box[2], (-box[1] * height) / box[3]];
  const outlines = new Map();
  const clips = [];
  const marks = [];
  const walk = (element, matrix, within) => {
    if (!plain(element)) return false;
    const { kind, attributes } = element;
    const at = (name) => parseFloat(attributes[name] || 0);
    if (attributes.transform) matrix = multiply(matrix, transformed(attributes.transform));
    if (kind === 'path' || kind === 'rect') {
      const [w, h] = [at('width'), at('height')];
      const outline = kind === 'path' ? attributes.d : `M${at('x')} ${at('y')}h${w}v${h}h${-w}Z`;
      if (!outline) return true;
      if (!outlines.has(outline)) outlines.set(outline, outlines.size);
      marks.push([outlines.get(outline), within, matrix]);
      return true;
    }
    if (kind === 'svg') { // a delimiter that is stretched: its own window
      const [x, y, w, h] = [at('x'), at('y'), at('width'), at('height')];
      const box = numbers(attributes.viewBox || '');
      if (!(w && h && box.length === 4 && box[2] && box[3])) return false;
      clips.push([`M${x} ${y}h${w}v${h}h${-w}Z`, matrix]);
      within = [...within, clips.length - 1];
      const scale = Math.min(w / box[2], h / box[3]);
      matrix = multiply(multiply(matrix, [1, 0, 0, 1, x, y]), [scale, 0, 0, scale, -box[0] * scale, -box[1] * scale]);
    }
    return element.children.every((child) => walk(child, matrix, within));
  };
  if (root.children.every((child) => child.kind === 'g' && walk(child, whole, []))) {
    const base = depth ? height + parseFloat(depth[1]) * ex : height;
    return { width, height, base, outlines: [...outlines.keys()], clips, marks };
  }
  return { svg: mathjax.adaptor.outerHTML(root) };
};

module.exports = { formula };
