"""From the command to a page's first token: the full-size model from its files, cold and warm, beside transformers.

python -m eval.startup
python -m eval.startup --weights int8 --repeats 5

Writes a model of random bfloat16 weights to a temporary folder (1.1 GB), then runs `got-jax ocr` in new processes: the
first with empty caches (the kernels and the programs are compiled), the others as a user meets them every day.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eval.command import printed
from eval.contestants import page_file, random_params
from eval.speed import about
from got_jax.cli import changes_of
from got_jax.config import got_580m, override
from got_jax.errors import require

RIVAL = """
import sys, torch, numpy as np
from PIL import Image
from transformers import GotOcr2ForConditionalGeneration
model = GotOcr2ForConditionalGeneration.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()
side, count, pad = model.config.vision_config.image_size, model.config.image_seq_length, model.config.image_token_id
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize((side, side), Image.BICUBIC), np.float32) / 255
pixels = torch.from_numpy((pixels - 0.45) / 0.27).permute(2, 0, 1)[None].to(torch.bfloat16)
ids = torch.tensor([[pad] * count + [7] * 30])
with torch.no_grad():
    model.generate(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), max_new_tokens=1)
"""


def seconds(command: list[str], caches: Path) -> float:
    """Of a new process, with its caches in a folder.

    Raises:
        GotError: when it fails.
    """
    begun = time.perf_counter()
    environment = {**os.environ, "XDG_CACHE_HOME": str(caches)}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"{command[:2]} failed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}.")
    return time.perf_counter() - begun


def measure(weights: str, repeats: int, changes: dict[str, str], rival: bool) -> str:
    """The machine and a table in Markdown, a line a case.

    Raises:
        GotError: for no repeats, an impossible shape, or a command that fails.
    """
    import jax

    from got_jax.tokenizers import load_tokenizer
    from got_jax.weights.store import Model
    from got_jax.weights.torch_write import write_torch_folder

    require(repeats >= 1, f"--repeats is {repeats}, but it must be at least 1.")
    jax.config.update("jax_platforms", "cpu")
    config = override(got_580m(), changes)
    lines = [about(), "", "| from the command to the first token | seconds |", "|---|---|"]
    with tempfile.TemporaryDirectory() as scratch:
        folder, page, caches = Path(scratch) / "model", Path(scratch) / "page.jpg", Path(scratch) / "caches"
        page.write_bytes(page_file())
        model = Model(config, random_params(config), load_tokenizer("qwen", None))
        write_torch_folder(folder, model, "transformers", "bfloat16")
        more = ["--weights", weights] if weights else []
        ours = ["-m", "got_jax", "ocr", str(page), "--model", str(folder), "--max-new-tokens", "1", *more]
        lines.append(f"| got-jax, empty caches | {seconds(ours, caches):.1f} |")
        again = [seconds(ours, caches) for _ in range(repeats)]
        spread = lambda taken: f"{statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})"
        lines.append(f"| got-jax, again | {spread(again)} |")
        if rival:
            taken = [seconds(["-c", RIVAL, str(folder), str(page)], caches) for _ in range(repeats)]
            lines.append(f"| transformers, bfloat16 | {spread(taken)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.startup",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(__doc__ or "").split("\n\n", 1)[1],
    )
    parser.add_argument("--weights", choices=["float32", "bfloat16", "int8"], default="", help="as of got-jax ocr")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="starts of each (default: 3)")
    parser.add_argument("--no-rival", action="store_true", help="got-jax alone")
    args, rest = parser.parse_known_args(argv)
    return printed(lambda: measure(args.weights, args.repeats, changes_of(rest), not args.no_rival))


if __name__ == "__main__":
    sys.exit(main())
