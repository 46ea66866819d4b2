"""What an attribution says that it has not measured."""

import math

from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.effects import Row
from diffexplain_fast.results.unmeasured import left_out_of, unmeasured_of


def _row(image: int, high: float = 1.0, n: int = 1) -> Row:
    return Row(image, "a", 0.5, -high, high, 1.0 if n else None, n, 0.5, None, None, "swap" if n else "screening")


def test_a_picture_whose_score_no_redraw_moves_is_named_and_one_that_the_budget_left_out_is_another() -> None:
    rows = [_row(0), _row(1, math.inf), _row(2, math.inf), _row(2, math.inf, n=0)]
    said = unmeasured_of(rows, [0, 1, 2], [1], placebos=True, all_shown=False)
    assert "The budget ended before the errors of edits were measured on 1 of 3 pictures." in said
    assert "On 1 of 3 pictures drawing a region anew did not move the score" in said
    assert "Of 4 changes of a picture 1 were screened only" in said and "placebo" not in said
    assert unmeasured_of([_row(0), _row(1)], [0, 1], [], placebos=True, all_shown=False) == ""


def test_equal_pictures_are_one_and_need_no_placebos() -> None:
    rows = [_row(0), _row(1)]
    assert unmeasured_of(rows, [0, 0], [], placebos=False, all_shown=False) == ""
    assert "No placebo was made" in unmeasured_of(rows, [0, 1], [], placebos=False, all_shown=False)


def test_what_a_budget_left_out_is_counted_and_neither_what_is_shown_nor_what_no_caption_can_say() -> None:
    settings: JsonObject = {"budget_used_up": True, "captions_cannot_say": ["b on picture 2"], "captions_too_long": []}
    rows, names = [_row(0)], ["a", "b"]
    said = left_out_of(rows, [["b"], []], names, settings)
    assert said.startswith("The budget left out 1 of 2 changes of a picture;")
    enough = "The budget was used up: tries, pairs or placebos may be missing."
    assert left_out_of(rows, [["b"], ["a"]], names, settings) == enough == left_out_of(rows, None, names, settings)
    assert left_out_of(rows, [["b"], []], names, settings | {"budget_used_up": False}) == ""
