"""What a budget leaves out: edits before their errors, and what was not measured never looks certain."""

import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import diffexplain_fast as dx
from diffexplain_fast.cli.attribute import summary
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex import setup
from diffexplain_fast.report.writing import write_report
from tests.methods.diffex.worlds import Left, pictures, quick_attribution

QUESTION: dict[str, Any] = {
    "taxonomy": {"background": ["snow", "desert"], "object": ["boat", "house"]},
    "captions": ["a red fish on grass"],
    "editor": "swap",
}
FIRST = 24
"""Rows of the first edit: eight steps of the inversion, which all share, its own eight, and eight of its check."""


@pytest.fixture(autouse=True)
def segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "shipped_with", lambda _: Shipped(segmenter=Left()))  # type: ignore[arg-type]


def attribution(count: int = 1, **options: Any) -> dx.Attribution:
    return quick_attribution(images=pictures(count), **QUESTION | {"captions": QUESTION["captions"] * count} | options)


@pytest.mark.parametrize("budget", [FIRST + 10, 60, 90, 140])
def test_rows_for_the_errors_are_kept_back_before_further_edits(budget: int) -> None:
    found = attribution(budget=budget)
    assert found.rows and found.errors["redraws"] and found.settings["redraws_left_out"] == []
    assert all(math.isfinite(row.high - row.low) for row in found.rows) and found.settings["budget_used_up"]


def test_further_pictures_do_not_take_the_rows_of_the_first() -> None:
    whole = attribution(budget=None)
    for budget in (90, 140, 200, 260):
        found = attribution(2, budget=budget)
        assert found.settings["redraws_left_out"] == []
        assert all(math.isfinite(row.high - row.low) for row in found.rows)
    first = [row for row in found.rows if row.image == 0]
    assert [(row.concept, row.effect) for row in first] == [(row.concept, row.effect) for row in whole.rows]


def test_an_edit_whose_error_was_not_measured_has_no_known_interval(tmp_path: Path) -> None:
    found = attribution(budget=FIRST)
    (row,), (effect,) = found.rows, found.effects
    assert (row.low, row.high) == (effect.low, effect.high) == (-math.inf, math.inf) and effect.adjusted_p == 1
    assert found.errors["redraws"] == [] and found.settings["redraws_left_out"] == [0]
    said = "The budget ended before the errors of edits were measured on 1 of 1 pictures."
    for text in (found.summary(), summary(found)):
        assert said in text and "[unknown]" in text and "inf" not in text
    page = write_report(found, tmp_path / "a.html").read_text()
    assert said in page and "interval unknown" in page and "inf%" not in page
    read = dx.Attribution.load(found.save(tmp_path / "a"))
    assert read.to_json() == found.to_json() and read.rows == found.rows and read.unmeasured.endswith(said)
    missing = len(found.taxonomy.concepts) - 1 - len(found.shown[0])
    assert f"The budget left out {missing} of {missing + 1} changes of a picture; " in read.unmeasured


def test_a_time_keeps_back_what_the_errors_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("diffexplain_fast.methods.diffex.budget.time.perf_counter", lambda: now[0])
    budget = setup.Budget.of(type("Models", (), {"denoiser_rows": 0})(), "10 s")  # type: ignore[arg-type]
    budget.kept = {0: 30}
    assert budget.allows(5)  # no row was timed yet
    budget.models.denoiser_rows, now[0] = 60, 6.0
    assert budget.allows(5)
    now[0] = 7.0  # the rows kept back would take until 10.5
    assert not budget.allows(5)
    assert budget.release(0) == 30 and budget.allows(5)


def test_concepts_that_were_only_screened_have_no_known_interval_either(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffexplain_fast.methods.diffex import screening

    monkeypatch.setattr(screening, "SCREENED_ABOVE", 3)
    monkeypatch.setattr(screening, "FINALISTS", 1)
    found = attribution(budget=FIRST)
    assert all(row.editor == "screening" and row.high == math.inf for row in found.rows if not row.n)
    assert all(effect.adjusted_p == 1 for effect in found.effects)


def test_a_time_is_looked_at_between_a_few_edits_and_not_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("diffexplain_fast.methods.diffex.budget.time.perf_counter", lambda: now[0])
    real = LatentModels.predict

    def predict(self: LatentModels, sample: Tensor, *given: Any) -> Tensor:
        now[0] += 0.1 * len(sample)  # a tenth of a second a row
        return real(self, sample, *given)

    monkeypatch.setattr(LatentModels, "predict", predict)
    words = ["snow", "desert", "boat", "house", "tree", "fish", "red", "blue"]
    options: dict[str, Any] = {"taxonomy": {"background": words}, "beam_width": 1}
    for seconds, least in ((5, 1), (12, 3), (18, 5)):
        now[0] = 0.0
        found = attribution(1, budget=f"{seconds} s", **options)
        assert now[0] <= seconds + 0.1 and len(found.rows) >= least and found.settings["budget_used_up"]
        assert all(math.isfinite(row.high - row.low) for row in found.rows)
