"""What a report says of the steps of the gradient, and of steps that had none."""

from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.report.steps import describe_steps
from diffexplain_fast.results.explanation import ActivationScore, Explanation, Iteration
from tests.explaining import NAMED
from tests.report.pages import example


def explained(norms: list[float], found: dict[str, Any], **changes: Any) -> Explanation:
    history = [Iteration(i, 1.0, 0.0, norm, 0.5) for i, norm in enumerate(norms)]
    return example(
        history=history, settings={"start": "boat", "found": found, **changes.pop("settings", {})}, **changes
    )


@pytest.mark.parametrize(
    ("convinced", "said", "curve"),
    [
        (0, "the gradient was zero, so that the words that were given could not be changed.", True),
        (1, "it was zero in 2 of 3 steps, and in the others the words that were given convinced the classifier.", True),
        (3, "the words that were given convinced the classifier.", False),
    ],
)
def test_a_gradient_of_zero_is_told_apart_from_pictures_that_convince(
    convinced: int, said: str, curve: bool, tmp_path: Path
) -> None:
    one = explained([0.0] * 3, {"by": "given", "steps_convinced": convinced, "moved": False})
    assert describe_steps(one) == f"No step of the gradient was taken: {said}"
    assert ("Loss per iteration" in render_report([one], tmp_path / "report.html").read_text()) is curve


@pytest.mark.parametrize(
    ("rate", "stop", "said"), [(0.9, 0.95, "convinced"), (None, 0.95, "was zero"), (0.9, None, "was zero")]
)
def test_files_of_earlier_versions_say_what_they_can(rate: float | None, stop: float | None, said: str) -> None:
    scores = {"held_out": ActivationScore(8, rate, None, 0.0, None)}
    options = {"options": {"stop_probability": stop}}
    assert said in describe_steps(explained([0.0, 0.0], {"by": "dictionary"}, activation=scores, settings=options))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"by": "dictionary and gradient", "moved": True}, "words that were tried first."),
        ({"by": "dictionary and gradient"}, "words that were tried first."),
        (
            {"by": "dictionary"},
            "words that were tried first. No step made the prompt better, so that it is as it was before.",
        ),
        (
            {"by": "gradient", "moved": False},
            "the prompt that the search found. No step made the prompt better, so that it is as it was before.",
        ),
        ({"by": "gradient"}, "the prompt that the search found."),
        ({"by": "proposals and gradient", "moved": True}, "the words that name what the search found."),
    ],
)
def test_steps_that_made_nothing_better_are_said_to_have_done_so(found: dict[str, Any], said: str) -> None:
    assert describe_steps(explained([0.2, 0.1], found, named=NAMED)) == f"2 steps of the gradient, from {said}"


@pytest.mark.parametrize(
    ("attempt", "convinced", "said"),
    [
        (0, 2, "No step of the gradient was taken: the words that the search started from convinced the classifier."),
        (0, 0, "the gradient was zero, so that the words that the search started from could not be changed."),
        (1, 0, "3 steps of the gradient, from words that were tried first."),
        (2, 0, "1 step of the gradient, from words that were tried first."),
    ],
)
def test_the_steps_are_those_of_the_best_attempt(attempt: int, convinced: int, said: str) -> None:
    norms, lasts = [0.0, 0.0, 0.2, 0.1, 0.1, 0.0, 0.3], [2, 3, 2]
    validations = [{"attempt": i, "step": step} for i, last in enumerate(lasts) for step in (0, 1, last)]
    found = {"by": "dictionary", "moved": True, "steps_convinced": 3, "left_out": ["steps"]}
    begun = {"validations": validations, "starts": [{"name": name} for name in ("tree", "boat", "random 0", "red")]}
    best = {"attempt": attempt, "attempt_convinced": convinced}
    text = describe_steps(explained(norms, found | best, settings=begun))
    among = "Of 3 attempts, with 4 steps in all, this was the best. The budget was spent"
    assert f"{said} {among}" in text
    if convinced or attempt:  # files of earlier versions have the name of the start, and all steps that convinced
        earlier = begun | {"start": begun["starts"][attempt]["name"]}
        assert describe_steps(explained(norms, found, settings=earlier)) == text


def test_words_that_a_search_was_named_by_are_not_called_its_beginning() -> None:
    one = explained([0.0], {"by": "proposals", "steps_convinced": 1, "moved": False}, named=NAMED)
    assert "taken: the words that name what the search found convinced" in describe_steps(one)
    one.named = None
    assert "taken: the words that come nearest to a name of what the search found" in describe_steps(one)
