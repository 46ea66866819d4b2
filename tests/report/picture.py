"""The picture of the README and the first page: ``python -m tests.report.picture demo/made-fish demo/made-house``.

It needs Chromium and Playwright, and two explanations that ``make demo`` has saved."""

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.results.explanation import Explanation
from tests.report.browser import ROOT, browser, opened

WIDTH, MARGIN, COLOURS = 1100, 16, 256


def take(folders: list[Path], out: Path) -> None:
    """Write a picture of the results in a page of saved explanations, without what stands above them.

    Args:
        folders: of the explanations.
        out: the file, a PNG.
    """
    with tempfile.TemporaryDirectory() as folder, browser() as started:
        file = render_report([Explanation.load(path) for path in folders], Path(folder) / "report.html")
        with opened(started, file, WIDTH) as page:
            boxes = [card.bounding_box() for card in page.locator("main > section[id]").all()]
            top, left = boxes[0]["y"] - MARGIN, boxes[0]["x"] - MARGIN
            size = {
                "width": boxes[0]["width"] + 2 * MARGIN,
                "height": boxes[-1]["y"] + boxes[-1]["height"] + MARGIN - top,
            }
            taken = page.screenshot(full_page=True, clip={"x": max(left, 0), "y": top, **size})
    picture = Image.open(BytesIO(taken)).convert("RGB")
    palette = picture.quantize(COLOURS, kmeans=1)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


if __name__ == "__main__":
    take([Path(name) for name in sys.argv[1:]], ROOT / "docs" / "report.png")
