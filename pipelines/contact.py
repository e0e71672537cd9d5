"""Contact sheets: many examples of an engine on one picture and on one HTML page, to look at."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

from PIL import Image, ImageDraw

from got_jax.data.example import Example

CELL_PX, GAP_PX, CAPTION_PX = 320, 12, 14


def as_picture(examples: Sequence[Example], columns: int = 4, cell_px: int = CELL_PX) -> Image.Image:
    """The first picture of each example in a grid of squares, its number and size above it."""
    rows = -(-len(examples) // columns)
    step_x, step_y = cell_px + GAP_PX, cell_px + GAP_PX + CAPTION_PX
    sheet = Image.new("RGB", (columns * step_x + GAP_PX, rows * step_y + GAP_PX), (96, 100, 108))
    draw = ImageDraw.Draw(sheet)
    for number, example in enumerate(examples):
        picture = Image.open(io.BytesIO(example.images[0])).convert("RGB")
        x, y = GAP_PX + number % columns * step_x, GAP_PX + number // columns * step_y
        more = f", {len(example.images)} pictures" if len(example.images) > 1 else ""
        draw.text((x, y), f"{number}: {picture.width} x {picture.height}{more}", fill=(255, 255, 255))
        picture.thumbnail((cell_px, cell_px))
        sheet.paste(picture, (x, y + CAPTION_PX))
    return sheet


def as_html(name: str, examples: Sequence[Example]) -> str:
    """Every picture with its prompt, answer and meta beside it, in one file that needs no other."""
    parts = [head(name)]
    for number, example in enumerate(examples):
        pictures = "".join(inline(data) for data in example.images)
        meta = html.escape(json.dumps(example.meta, ensure_ascii=False)[:2000])
        parts.append(
            f"<section><div>{pictures}</div><div><b>{number}</b> <code>{html.escape(example.prompt)}</code>"
            f"<pre>{html.escape(example.text)}</pre><small>{meta}</small></div></section>"
        )
    return "\n".join(parts)


def head(name: str) -> str:
    """The beginning of a page."""
    return (
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(name)}</title><style>"
        "body{font:14px sans-serif;background:#eee;margin:2em}section{display:flex;gap:1.5em;margin:0 0 2em}"
        "img{max-width:48vw;max-height:90vh;align-self:flex-start;box-shadow:0 1px 4px #999}"
        "pre{white-space:pre-wrap;margin:.3em 0;background:#fff;padding:.7em}small{color:#666;word-break:break-all}"
        f"</style><h1>{html.escape(name)}</h1>"
    )


def inline(png: bytes) -> str:
    """A PNG file inside the page."""
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
