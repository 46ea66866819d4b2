"""The row "train": pictures of the draws on which the prompt was tuned, in the attempt that was the best."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.state import State, Validation, tuned_on
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.report.rows import score_rows
from tests.explaining import QUICK, quick_explainer


def state(best: tuple[int, float], *validations: tuple[int, int, float]) -> State:
    """Return a state with validations of an attempt, a step and a score; the best is an attempt and a score."""
    soft = torch.zeros(1, 2)
    kept = [Validation(attempt=a, step=step, rate=0.5, score=score) for a, step, score in validations]
    return State(soft[None], [], soft, soft, best_score=(0.5, best[1]), best_attempt=best[0], validations=kept)


@pytest.mark.parametrize(
    ("best", "validations", "latents"),
    [
        ((0, 2.0), [(0, 0, 1.0), (0, 2, 2.0)], range(0, 6)),
        ((0, 2.0), [(0, 0, 1.0), (0, 2, 2.0), (0, 4, 0.0)], range(0, 6)),  # what came after it tuned nothing
        ((1, 3.0), [(0, 0, 1.0), (0, 2, 2.0), (1, 0, 0.0), (1, 4, 3.0)], range(6, 18)),
        ((1, 3.0), [(0, 0, 1.0), (0, 2, 2.0), (1, 0, 3.0), (1, 4, 3.0), (2, 5, 1.0)], range(6, 18)),  # no step helped
        ((0, 3.0), [(0, 0, 3.0), (0, 2, 2.0), (1, 0, 0.0), (1, 4, 1.0)], range(0, 6)),
    ],
)
def test_draws_are_those_of_the_steps_that_led_to_the_best_state(
    best: tuple[int, float], validations: list[tuple[int, int, float]], latents: range
) -> None:
    assert tuned_on(Options(images_per_step=3), state(best, *validations)) == latents
    assert tuned_on(Options(images_per_step=3, fresh_latents=False), state(best, *validations)) == range(3)


def test_a_later_attempt_is_scored_on_its_own_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    scored, batches = list[Any](), Problem.batches

    def spied(problem: Problem, text: Conditioning, stage: str, latents: Any) -> Iterator[tuple[Tensor, Scores]]:
        scored.extend([latents] if stage == "train" else [])
        return batches(problem, text, stage, latents)

    monkeypatch.setattr(Problem, "batches", spied)
    options = {**QUICK, "restarts": 3, "restart_below": 1.0, "n_score": 64, "images_per_step": 3}
    attempts = set[int]()
    with quick_explainer() as explainer:
        for label in ("boat", "fish", "house", "tree"):
            found = explainer.explain(label, **options)
            best, train = found.settings["found"]["attempt"], scored[-1]
            steps = QUICK["iterations"] * options["images_per_step"]
            assert best * steps == train.start and train.start < train.stop <= (best + 1) * steps
            assert found.activation["train"].n == len(train)
            attempts.add(best)
    assert attempts - {0}, "one attempt after the first wins"


def test_the_report_does_not_say_that_steps_helped_where_none_did() -> None:
    with quick_explainer() as explainer:
        found = explainer.explain("boat", **QUICK)
    assert found.settings["found"]["moved"] == (
        score_rows(found)[-1].name == "Explanation, start noise that the steps used"
    )
    found.settings["found"]["moved"] = False
    assert score_rows(found)[-1].name.endswith("that the steps used, none of which made the prompt better")
