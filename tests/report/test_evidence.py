"""Pictures are shown with the classifier's answers, in a size that fits the page."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.report.page import inline_pictures
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.results.pictures import Answer, Picture
from tests.report.pages import example, render


def with_pictures(**changes: Any) -> Explanation:
    """Return an explanation with answers, pictures of the class name, and a failure."""
    found = example()
    shown = [
        Picture(found.images[0], Answer(0, 3.0, 0.97, True, "boat")),
        Picture(found.images[1], Answer(1, -1.0, 0.2, False, "fish")),
    ]
    named = [Picture(Image.new("RGB", (8, 8), "green"), Answer(0, 0.0, 0.4, False, "house"))]
    missed = [Picture(Image.new("RGB", (8, 8), "black"), Answer(7, -2.0, 0.01, False, "fish"))]
    pictures = {"held_out": shown, "class_name": named, "failures": missed}
    return example(images=found.images, pictures=pictures, **changes)


def test_every_picture_has_its_answer(tmp_path: Path) -> None:
    page = render(tmp_path, with_pictures())
    text = " ".join(page.text.split())
    for said in (
        "boat 97 %",
        "fish (boat 20 %)",
        "house (boat 40 %)",
        "fish (boat 1 %)",
        "Drawn from only the class name",
    ):
        assert said in text, said
    assert "2 of 32 pictures from unseen start noise are not recognised; 1 above, 1 here" in text
    assert page.tags.count("img") == 4 and page.values.count(("loading", "lazy")) == 4
    kinds = [value for name, value in page.values if name == "class" and value in ("hit", "miss")]
    assert kinds == ["hit", "miss", "miss", "miss"]
    assert page.text.count("not recognised:") == 3


def test_classes_that_do_not_exclude_one_another_have_a_probability_only(tmp_path: Path) -> None:
    shown = [Picture(example().images[0], Answer(0, 3.0, 0.3, False))]
    page = render(tmp_path, example(output="sigmoid", pictures={"held_out": shown}))
    assert "boat 30\N{NO-BREAK SPACE}%" in page.text and page.tags.count("img") == 1


def test_eight_classes_with_pictures_of_noise_stay_under_three_megabytes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)

    def picture(i: int) -> Picture:
        pixels = draw.integers(0, 256, (512, 512, 3), dtype=np.uint8)
        return Picture(Image.fromarray(pixels), Answer(i, 0.0, 0.5, True, "boat"))

    shown = {"held_out": [picture(i) for i in range(8)], "class_name": [picture(i) for i in range(8)]}
    noisy = example(images=[p.image for p in shown["held_out"]], pictures=shown)
    one = render_report([noisy], tmp_path / "one.html").stat().st_size
    base = render_report([example(images=[])], tmp_path / "none.html").stat().st_size
    assert base + 8 * (one - base + 10_000) <= 3_000_000 and one - base > 50_000


def test_pictures_become_smaller_until_they_fit() -> None:
    photo = Image.radial_gradient("L").resize((600, 300))
    (large,) = inline_pictures([photo])
    (small,) = inline_pictures([photo], limit=len(large.source) - 1)
    assert (large.width, large.height) == (512, 256) and (small.width, small.height) == (384, 192)
    assert inline_pictures([photo], limit=0)[0].width == 64 and inline_pictures([]) == []
