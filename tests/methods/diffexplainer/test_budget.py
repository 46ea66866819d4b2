"""Budgets: how they are written, when they are spent, and what is then left out."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import dictionary, starts, vocabulary
from diffexplain_fast.methods.diffexplainer.budget import (
    MODES,
    NAMING,
    SEARCHING,
    SECOND_LOOKS,
    SECOND_WORDS,
    STEPS,
    WORDS,
)
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start
from diffexplain_fast.methods.diffexplainer.starts import choose_starts
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.report.explanation import describe_steps
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.runs.spending import read_limit
from diffexplain_fast.targets import ClassProbability
from tests.explaining import QUICK, assert_same_result, quick_explanation
from tests.tiny import LABELS, tiny_classifier, tiny_sd

SIX = ["red", "blue", "snow", "desert", "tree", "house"]
"""Words to screen: two batches, of four words and of two."""


def test_rows_with_and_without_gradient_are_spent() -> None:
    def is_at_limit(budget: str | None, seconds: float = 0.0) -> bool:
        cost = Cost(forward=6, gradient=3, before=seconds, limit=read_limit(budget))
        assert cost.leaves_out("it") == bool(cost.left_out)
        return cost.is_at_limit

    assert not is_at_limit("10 rows") and is_at_limit("9 rows") and not is_at_limit(None)
    assert is_at_limit("49 s", 50.0) and not is_at_limit("2 min", 50.0)
    assert Cost(forward=6, earlier=(3, 0.0), limit=read_limit(9)).is_at_limit


def test_an_optimisation_ends_with_its_budget() -> None:
    free, limited = quick_explanation(), quick_explanation(budget="20 rows")
    assert len(limited.history) < len(free.history)
    spent = limited.settings["found"]["cost"]
    assert 20 <= spent["forward"] + spent["gradient"] < 20 + 2 * 2 * 2 * 2, "by one step and one validation at most"


@pytest.fixture
def problem() -> Problem:
    """Return a problem whose pictures take one row each, and whose class no word convinces of."""
    pipeline, classifier = load_pipeline(tiny_sd()), Classifier(tiny_classifier(), labels=LABELS)
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=1, guidance_scale=1.0)
    return Problem(pipeline, sampler, classifier, ClassProbability("boat").bind(classifier), "", 0)


def chosen(problem: Problem, **options: Any) -> list[Start]:
    given = Options(**{"n_tokens": 2, "n_validation": 5, "candidates": SIX, "start": "screen", **options})
    problem.cost.limit = read_limit(given.budget)
    return choose_starts(problem, given, None, Kept(cost=problem.cost), lambda done, total: None)


def test_the_words_after_the_budget_are_not_drawn_and_the_best_of_the_others_is_validated(problem: Problem) -> None:
    found = chosen(problem, budget=8)
    drawn = [start for start in found if start.score is not None]
    assert {start.name for start in drawn} == set(SIX[:4])
    assert [start.each is not None for start in drawn] == [True, False, False, False]
    assert problem.cost.rows == 8 + 5 and problem.cost.left_out == [WORDS, SECOND_LOOKS, SECOND_WORDS]
    assert found[-1].name == "random 0", "a start without words is there in any case"


def test_a_budget_that_words_do_not_spend_changes_nothing_of_them(problem: Problem) -> None:
    free = [start.name for start in chosen(problem)]
    spent, problem.cost = problem.cost.rows, Cost()
    assert [start.name for start in chosen(problem, budget=spent + 1)] == free
    assert problem.cost.rows == spent and problem.cost.left_out == []


def test_second_words_are_drawn_while_there_is_a_budget(problem: Problem) -> None:
    words, looks = 6 * 2, 4 * 5
    chosen(problem, budget=words + looks)
    assert problem.cost.rows == words + looks and problem.cost.left_out == [SECOND_WORDS]
    problem.cost = Cost()
    chosen(problem, budget=words + looks + 1)
    batch, second_look = 8, dictionary._SECOND_LOOK
    assert problem.cost.rows == words + looks + batch + second_look + 5, "a batch, of which the best is validated"
    assert problem.cost.left_out == [SECOND_WORDS, SECOND_LOOKS]


def test_words_that_spend_the_budget_are_followed_by_no_search(problem: Problem) -> None:
    found = chosen(problem, start="auto", restart_below=1.0, budget=12)
    assert problem.cost.gradient == 0 and found[0].origin == "dictionary"
    assert problem.cost.left_out == [SECOND_LOOKS, SEARCHING], "a search would have found pairs, not second words"


def test_a_search_that_spends_the_budget_is_validated_but_not_named(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "SMALL_VOCABULARY", 3)
    found = chosen(problem, start="auto", candidates=None, restart_below=1.0, budget=9)
    assert found[0].each is not None and found[0].origin == "gradient"
    assert problem.cost.rows == 2 * 8 + 5, "two batches of pictures, and what they found is validated"
    assert problem.cost.left_out == [SEARCHING, SECOND_LOOKS, NAMING]


@pytest.mark.parametrize("budget", [1, 40])
def test_an_optimisation_that_is_ended_validates_its_last_step(budget: int) -> None:
    found = quick_explanation(iterations=8, validate_every=8, budget=budget)
    places = [(validation["attempt"], validation["step"]) for validation in found.settings["validations"]]
    assert places == [(0, 0), (0, len(found.history))] and 1 <= len(found.history) < 8
    assert found.settings["found"]["left_out"] == [STEPS]
    assert describe_steps(found).endswith("The budget was spent, so that these were left out or cut short: steps.")


def test_a_budget_is_for_all_explanations_of_a_call() -> None:
    options = {"modes": 2}
    free = quick_explanation(**options)
    rows = [sum(_rows(one)) for one in (free, *free.others)]
    assert free.settings["found"]["left_out"] == [] and len(rows) == 2
    assert quick_explanation(**options, budget=sum(rows) + 1).others
    second = quick_explanation(**options, budget=rows[0] + 1)
    assert second.settings["found"]["left_out"] == [] and second.others[0].settings["found"]["left_out"]
    alone = quick_explanation(**options, budget=rows[0])
    assert alone.others == [] and alone.settings["found"]["left_out"] == [MODES]


class Killed(nn.Module):
    """The tiny classifier, which ends the run at one of its calls."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__()
        self.model, self.last, self.calls = tiny_classifier(), last, 0

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        self.calls += 1
        if self.calls == self.last:
            raise InterruptedError
        return self.model(pixels)


def test_a_run_that_is_killed_after_its_budget_was_spent_ends_as_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffexplain_fast.methods.diffexplainer.describing.STEPS", (2, 1))
    monkeypatch.setattr("diffexplain_fast.methods.diffexplainer.looking.BAGS", 8)
    options = {**QUICK, "start": "gradient", "iterations": 2, "budget": 250}
    validated, ranked = [], starts.ranked

    def counted(*given: Any) -> list[Start]:
        validated.append(module.calls)
        return ranked(*given)

    monkeypatch.setattr(starts, "ranked", counted)
    module = Killed()
    whole = quick_explanation(module, **options, checkpoint=tmp_path / "whole")
    assert whole.settings["found"]["left_out"] == [SEARCHING, SECOND_LOOKS, STEPS, NAMING]
    module = Killed(validated[0] + 1)
    with pytest.raises(InterruptedError):
        quick_explanation(module, **options, checkpoint=tmp_path / "run")
    module = Killed()
    resumed = quick_explanation(module, **options, checkpoint=tmp_path / "run")
    assert_same_result(resumed, whole)
    untimed = [{**one.settings["found"], "cost": _rows(one)} for one in (resumed, whole)]
    assert untimed[0] == untimed[1]


def _rows(explanation: Explanation) -> list[int]:
    cost = explanation.settings["found"]["cost"]
    return [cost["forward"], cost["gradient"]]
