"""What a run does after an interruption: it names as it would have, and computes nothing a second time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import running, telling, texts
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import new_ones
from diffexplain_fast.methods.diffexplainer.naming import name_found
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, soft_from_text
from diffexplain_fast.results.named import Named
from tests.explaining import NAMED, assert_same_result, quick_explanation


def interrupted(*_: object, **__: object) -> Never:
    raise KeyboardInterrupt


def found_as(origin: str, score: float | None = None) -> Callable[..., list[Start]]:
    """Return a search that finds the prompt "boat" at once."""

    def starts(problem: Problem, *_: Any) -> list[Start]:
        return [Start("search 0.0", soft_from_text(problem.pipeline, "boat", 2), score, origin=origin)]

    return starts


def test_a_naming_that_is_interrupted_goes_on_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "choose_starts", found_as("gradient"))
    phases: list[str] = []
    drawn: list[str] = []
    screen = texts.screen
    with monkeypatch.context() as patch:
        patch.setattr(
            texts, "screen", lambda problem, said, *given: drawn.extend(said) or screen(problem, said, *given)
        )
        whole = quick_explanation(callback=lambda event: phases.append(event.phase))
    assert whole.settings["found"]["words_drawn"] == len(drawn) > 0
    assert list(dict.fromkeys(phases)) == ["optimise", "name", "evaluate"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(texts, "screen", interrupted)
        quick_explanation(checkpoint=tmp_path)
    monkeypatch.setattr(running, "choose_starts", interrupted)
    told = telling._told

    def not_again(*args: Any) -> Any:
        return told(*args) if args[-1] else interrupted()  # words of most pictures are asked for later

    with monkeypatch.context() as patch:
        patch.setattr(telling, "_told", not_again)
        resumed = quick_explanation(checkpoint=tmp_path)
    assert resumed.named is not None and resumed.named == whole.named
    assert_same_result(resumed, whole)
    assert resumed.settings["found"]["cost"]["forward"] == whole.settings["found"]["cost"]["forward"]
    assert resumed.settings["found"]["words_drawn"] == len(drawn)
    monkeypatch.setattr(running, "name_found", interrupted)
    assert quick_explanation(checkpoint=tmp_path).named == whole.named


def test_a_second_naming_that_is_interrupted_costs_what_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts(problem: Problem, *_: Any) -> list[Start]:
        found = found_as("gradient")(problem)
        return new_ones(problem, found) or found

    def interrupted_in_the_second(problem: Problem, *given: Any) -> Any:
        return interrupted() if problem.others else name_found(problem, *given)

    monkeypatch.setattr(running, "choose_starts", starts)
    whole = quick_explanation(modes=2).others[0]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(running, "name_found", interrupted_in_the_second)
        quick_explanation(modes=2, checkpoint=tmp_path)
    resumed = quick_explanation(modes=2, checkpoint=tmp_path).others[0]
    assert resumed.named is not None and resumed.named == whole.named
    assert_same_result(resumed, whole)
    assert resumed.settings["found"]["cost"]["forward"] == whole.settings["found"]["cost"]["forward"]


@pytest.mark.parametrize("origin", ["given", "random", "dictionary"])
def test_a_prompt_that_no_search_found_is_not_named(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "choose_starts", found_as(origin))
    assert quick_explanation().named is None


@pytest.mark.parametrize("moved", [False, True])
def test_words_that_were_proposed_are_named_again_where_steps_moved_them(
    moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts(*given: Any) -> list[Start]:
        return [replace(start, named=NAMED) for start in found_as("proposals", 0.4)(*given)]

    again = Named({**NAMED, "prompt_probability": 0.5})
    monkeypatch.setattr(running, "choose_starts", starts)
    monkeypatch.setattr(running, "has_moved", lambda state: moved)
    monkeypatch.setattr(running, "name_found", lambda *_: (again, []))
    assert quick_explanation().named == (again if moved else NAMED)


@pytest.mark.parametrize("moved", [False, True])
def test_a_prompt_that_no_step_has_moved_is_named_with_the_score_of_its_search(
    moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores: list[float | None] = []

    def name_found(problem: Problem, options: Options, found: Start, kept: Kept) -> tuple[None, list[Start]]:
        scores.append(found.score)
        return None, []

    monkeypatch.setattr(running, "choose_starts", found_as("gradient", 0.4))
    monkeypatch.setattr(running, "has_moved", lambda state: moved)
    monkeypatch.setattr(running, "name_found", name_found)
    quick_explanation()
    assert scores == [None if moved else 0.4]
