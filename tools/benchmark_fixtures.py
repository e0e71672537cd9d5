"""Writes tests/data/benchmarks: a few pages of our own in the exact formats of the benchmarks that `eval` reads.

.venv/bin/python tools/benchmark_fixtures.py

Texts, charts, scores and scenes were written for this project (CC0). The pictures are drawn by MuPDF, matplotlib,
Verovio and the engines' rasteriser; nothing was taken from a benchmark.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
ROOT = Path(__file__).parents[1] / "tests" / "data" / "benchmarks"
LINE = 28  # points from line to line
README = """# Benchmark fixtures

A few pages, boxes, charts, scores and scenes in the exact file formats of Fox, GOT's own benchmarks, ChartSE,
OmniDocBench and olmOCR-bench, so that tests run every suite to its end. All content was written for this project and is
in the public domain (CC0); `tools/benchmark_fixtures.py` writes it again.
"""
EN = [
    ["The harbour master keeps a book", "of every ship that comes and goes.", "It is older than the town itself."],
    ["Bread was four pence in spring,", "and six before the leaves fell."],
]
ZH = [["港口管理员有一本记录簿，", "每艘船来去都写在上面。"], ["春天的面包四个铜板，", "秋天之前涨到了六个。"]]
KERN = (
    "**kern\t**kern\n*clefF4\t*clefG2\n*k[]\t*k[]\n*M2/4\t*M2/4\n=1\t=1\n4C\t8e\n.\t8g\n4G\t4c\n=2\t=2\n2C\t2e\n"
    "==\t==\n*-\t*-"
)
TIKZ = [
    "\\begin{tikzpicture}\n\\draw (0,0) -- (3,0) -- (1,2) -- cycle;\n\\end{tikzpicture}",
    "\\begin{tikzpicture}\n\\draw (0,0) circle (1.2);\n\\draw (-1.2,0) -- (1.2,0);\n\\end{tikzpicture}",
]
FORMATTED = (
    "# Tides\n\nThe height is \\(h = a \\cos t\\) at the pier.\n\n\\[ a = 2 \\]\n\n"
    "\\begin{tabular}{ll}\n\\hline\nplace & range \\\\\npier & 4 \\\\\n\\hline\n\\end{tabular}"
)


def page(
    lines: list[str], chinese: bool = False, frames: dict[str, tuple[float, ...]] | None = None
) -> pymupdf.Document:
    """A page with a line of text every `LINE` points; frames in colours."""
    document = pymupdf.open()
    width, height = 330, 24 + LINE * len(lines)
    sheet = document.new_page(width=width, height=height)
    for i, line in enumerate(lines):
        sheet.insert_text((18, 24 + LINE * i), line, fontsize=16, fontname="china-s" if chinese else "helv")
    colours = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
    for colour, box in (frames or {}).items():
        sheet.draw_rect(pymupdf.Rect(box), color=colours[colour], width=1.5)
    return document


def save(path: Path, document: pymupdf.Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixmap = document[0].get_pixmap(dpi=110, colorspace=pymupdf.csRGB)
    Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples).quantize(32).save(path, optimize=True)


def ink(path: Path, covered: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - covered).quantize(16).save(path, optimize=True)


def dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def entry(image: Any, question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns}


def box_of(first: int, last: int, lines: int) -> list[int]:
    """Thousandths of the page from line to line."""
    height = 24 + LINE * lines
    return [20, int((8 + LINE * first) / height * 1000), 980, int((8 + LINE * (last + 1)) / height * 1000)]


def fox() -> None:
    base = ROOT / "focus_benchmark_test"
    for code, texts, chinese in (("en", EN, False), ("cn", ZH, True)):
        pages, boxes, points, framed = [], [], [], []
        for n, lines in enumerate(texts, 1):
            name = f"{code}_{n}.png"
            save(base / f"{code}_pdf_png" / name, page(lines, chinese))
            pages.append(entry(name, "<image>\nOCR this image.", "\n".join(lines)))
            box = box_of(0, 1, len(lines))
            boxes.append(entry(name, f"<image>\nGive the OCR results of the box {box}", "\n".join(lines[:2])))
            point = [box[0] + 80, (box[1] + box_of(0, 0, len(lines))[3]) // 2]
            points.append(entry(name, f"<image>\nOCR the line at {point}", lines[0]))
            frames = {"red": (8.0, 6.0, 322.0, 29.0), "green": (8.0, 6.0 + LINE, 322.0, 29.0 + LINE)}
            save(base / f"{code}_pdf_png_onbox" / name, page(lines, chinese, frames))
            for colour, line in (("red", lines[0]), ("green", lines[1])):
                framed.append(entry(name, f"<image>\nOCR the text within the {colour} box.", line))
        for kind, rows in (("page", pages), ("box", boxes), ("line", points), ("onbox", framed)):
            dump(base / f"{code}_{kind}_ocr.json", rows)
    names, texts = [], []
    for n, lines in enumerate([*EN, *ZH], 1):
        names.append(f"page_{n}.png")
        save(base / "pdfpng_encn_multi_8page" / names[-1], page(lines, n > len(EN)))
        texts.append("\n".join(lines))
    dump(base / "encn-multi-8page-box-ocr.json", [entry(names, "<image>\nOCR all pages.", "\n".join(texts))])


def got() -> None:
    from pipelines import fonts, tikz
    from pipelines.music import draw

    base = ROOT / "got"
    for code, signs, chinese in (("en", ["OPEN 24 HOURS", "STOP"], False), ("zh", ["欢迎光临", "出口"], True)):
        rows = []
        for n, sign in enumerate(signs, 1):
            save(base / f"scene_{code}" / f"{code}_{n}.png", page([sign], chinese))
            rows.append(entry(f"{code}_{n}.png", "<image>\nOCR: ", sign))
        dump(base / f"scene_{code}.json", rows)
    words = ["Tides", "The height is h = a cos t at the pier.", "a = 2", "place    range", "pier      4"]
    save(base / "pages" / "tides.png", page(words))
    dump(base / "formatted.json", [entry("tides.png", "<image>\nOCR with format: ", FORMATTED)])
    style = {
        "font": next(f.name for f in fonts.faces() if f.kind == "serif" and "en" in f.languages),
        "music": "Leipzig", "scale": 35, "staff_line": 0.15, "bar_line": 0.3, "spacing": 0.25, "staves": 7, "slope": 10,
        "title": "", "author": "", "tempo": "", "margins": [10.0, 10.0, 10.0, 10.0],
    }  # fmt: skip
    ink(base / "sheet_music" / "two_bars.png", draw(KERN, style))
    dump(base / "sheet_music.json", [entry("two_bars.png", "<image>\nOCR with format: ", KERN)])
    rows = []
    for n, scene in enumerate(TIKZ, 1):
        ink(base / "geometry" / f"scene_{n}.png", tikz.cover(scene, 2.0))
        rows.append(entry(f"scene_{n}.png", "<image>\nOCR with format: ", scene))
    dump(base / "geometry.json", rows)


def charts() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    base = ROOT / "ChartSE_Benchmark"
    drawn: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
        "ChartQA": [
            ("rain.png", "Rain by month", {"May": 31, "June": 12, "July": 44}),
            ("ships.png", "Ships", {"2019": {"in": 20, "out": 18}, "2020": {"in": 7, "out": 9}}),
        ],
        "PlotQA": [("tea.png", "Tea drunk", {"1990": "5.5", "2000": "6.25"})],
    }
    files = {"ChartQA": "ChartQA_test_human_filter.json", "PlotQA": "PlotQA_test_filter.json"}
    for place, rows in drawn.items():
        entries = []
        for name, title, values in rows:
            figure, axes = pyplot.subplots(figsize=(3.2, 2.4), dpi=80, layout="constrained")
            series = values if isinstance(next(iter(values.values())), dict) else {"": values}
            for i, (label, points) in enumerate(series.items()):
                places = np.arange(len(points)) + 0.4 * i
                axes.bar(places, [float(v) for v in points.values()], 0.35, label=label)
                axes.set_xticks(np.arange(len(points)), list(points))
            axes.set(title=title, ylabel="number")
            if len(series) > 1:
                axes.legend()
            (base / place).mkdir(parents=True, exist_ok=True)
            figure.savefig(base / place / name, metadata={"Software": None})
            pyplot.close(figure)
            Image.open(base / place / name).convert("RGB").quantize(32).save(base / place / name, optimize=True)
            titles = {"title": title, "source": "None", "x_title": "None", "y_title": "number"}
            entries.append({"images": name, "gts": {**titles, "values": values}})
        dump(base / files[place], entries)


def omnidocbench() -> None:
    base = ROOT / "OmniDocBench"
    poly = lambda i: [18, 10 + LINE * i, 312, 10 + LINE * i, 312, 30 + LINE * i, 18, 30 + LINE * i]
    table = "<table><tr><td>place</td><td>range</td></tr><tr><td>pier</td><td>4</td></tr></table>"
    layouts = {
        "tides.png": ("english", "academic_literature", [
            ("header", "text", "Journal of Tides"), ("title", "text", "Tides"),
            ("text_block", "text", "The height is $h = a \\cos t$ at the pier."),
            ("equation_isolated", "latex", "$$a = 2$$"), ("table", "html", table), ("page_number", "text", "7"),
        ]),
        "bread.png": ("english", "book", [("text_block", "text", " ".join(EN[1]))]),
        "harbour.png": ("simplified_chinese", "newspaper", [
            ("title", "text", ZH[0][0]), ("text_block", "text", ZH[0][1]),
        ]),
    }  # fmt: skip
    entries = []
    for name, (language, source, blocks) in layouts.items():
        plain = {"latex": "a = 2", "html": "pier   4"}
        shown = [plain.get(field, content.replace("$", "").replace("\\cos", "cos")) for _, field, content in blocks]
        shown = [line for text in shown for line in (EN[1] if text == " ".join(EN[1]) else [text])]
        save(base / "images" / name, page(shown, language != "english"))
        dets = [
            {"category_type": kind, "poly": poly(i), "ignore": False, "order": i + 1, "anno_id": i + 1, field: content,
             "attribute": {}, "line_with_spans": []}
            for i, (kind, field, content) in enumerate(blocks)
        ]  # fmt: skip
        info = {"page_no": 0, "height": 200, "width": 330, "image_path": name,
                "page_attribute": {"language": language, "data_source": source, "layout": "single_column"}}  # fmt: skip
        entries.append({"layout_dets": dets, "page_info": info, "extra": {"relation": []}})
    dump(base / "OmniDocBench.json", entries)


def olmocr_bench() -> None:
    base = ROOT / "olmOCR-bench" / "bench_data"
    for subset, name, lines in (
        ("multi_column", "harbour.pdf", EN[0]),
        ("tables", "prices.pdf", ["month    pence", "spring   4", "autumn   6"]),
        ("arxiv_math", "tides.pdf", ["The height is h = a cos t.", "Here a = 2."]),
    ):
        path = base / "pdfs" / subset / name
        path.parent.mkdir(parents=True, exist_ok=True)
        page(lines).save(path, garbage=4, deflate=True, no_new_id=True)
    common = {"page": 1, "max_diffs": 1, "checked": "verified", "url": None}
    tests = {
        "multi_column": [
            {"pdf": "multi_column/harbour.pdf", "id": "harbour_1", "type": "present", "text": EN[0][0], **common},
            {"pdf": "multi_column/harbour.pdf", "id": "harbour_2", "type": "order", "before": "harbour master",
             "after": "older than", **common},
            {"pdf": "multi_column/harbour.pdf", "id": "harbour_3", "type": "absent", "text": "Journal", **common},
        ],
        "table_tests": [
            {"pdf": "tables/prices.pdf", "id": "prices_1", "type": "table", "cell": "4", "left": "spring", "down": "6",
             "top_heading": "pence", **common},
        ],
        "arxiv_math": [
            {"pdf": "arxiv_math/tides.pdf", "id": "tides_1", "type": "math", "math": "h = a \\cos t", **common},
            {"pdf": "arxiv_math/tides.pdf", "id": "tides_2", "type": "baseline", **common},
        ],
    }  # fmt: skip
    for name, rows in tests.items():
        (base / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    (ROOT / "README.md").write_text(README, encoding="utf-8")
    for make in (fox, got, charts, omnidocbench, olmocr_bench):
        make()
    print(f"{sum(f.is_file() for f in ROOT.rglob('*'))} files, {sum(f.stat().st_size for f in ROOT.rglob('*'))} bytes")
