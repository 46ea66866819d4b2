"""Attributions with a checkpoint: killed at any step they end as if nothing had happened, and nothing is run twice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.methods.diffex import attribute
from tests.methods.diffex.worlds import pictures, quick_attribution
from tests.tiny import tiny_classifier

TAXONOMY = {"thing": ["boat", "fish"], "ground": ["snow", "desert"]}
QUESTION = {"taxonomy": TAXONOMY, "captions": None, "seeds": 2, "images": pictures(1), "beam_width": 1}


class Killed(BaseException):
    """Nothing may catch it."""


def killed_after(calls: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the denoiser end the process, as it were, after so many calls; returns how many it has run."""
    real, count = LatentModels.predict, [0]

    def predict(self: LatentModels, *given: object) -> torch.Tensor:
        if count[0] == calls:
            raise Killed
        count[0] += 1
        return real(self, *given)

    patch.setattr(LatentModels, "predict", predict)
    return lambda: count[0]


def same(found: dx.Attribution, wanted: dx.Attribution) -> bool:
    pairs = [zip(found.edits(i), wanted.edits(i), strict=True) for i in range(len(wanted.images))]
    pixels = all(a.image.tobytes() == b.image.tobytes() for some in pairs for a, b in some)
    return found.to_json() == wanted.to_json() and pixels


@pytest.fixture(scope="module")
def whole() -> dx.Attribution:
    return quick_attribution(**QUESTION)


@pytest.mark.parametrize("calls", [1, 20, 50])
def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_result(
    whole: dx.Attribution, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(calls, patch)
        quick_attribution(**QUESTION, checkpoint=tmp_path / "c")
    found = quick_attribution(**QUESTION, checkpoint=tmp_path / "c")
    assert same(found, whole)


def test_what_is_done_is_not_run_again(whole: dx.Attribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**QUESTION, "checkpoint": tmp_path / "c"}
    assert same(quick_attribution(**options), whole)
    with monkeypatch.context() as patch:
        count = killed_after(-1, patch)
        assert same(quick_attribution(**options), whole) and count() == 0
    options["seeds"] = 3  # the first two repetitions are there
    more = quick_attribution(**options)
    assert all(row.n == 3 for row in more.rows)
    first = {edit.image.tobytes() for edit in whole.edits(0, whole.rows[0].concept)}
    assert first < {edit.image.tobytes() for edit in more.edits(0, whole.rows[0].concept)}


def test_screened_concepts_and_budgets_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute, "SCREENED_ABOVE", 3)
    monkeypatch.setattr(attribute, "FINALISTS", 2)
    options = {"taxonomy": {"ground": ["snow", "desert", "tree", "house"]}, "images": pictures(1), "budget": 90}
    options["captions"] = ["a fish"]
    wanted = quick_attribution(**options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(8, patch)
        quick_attribution(**options, checkpoint=tmp_path / "c")
    assert same(quick_attribution(**options, checkpoint=tmp_path / "c"), wanted)


def test_another_question_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    options = {"images": pictures(1), "beam_width": 1, "checkpoint": tmp_path / "c"}
    quick_attribution(**options)
    with pytest.raises(ValueError, match=r"checkpoint, .*same target"):
        quick_attribution(**options, target="fish")
    with pytest.raises(ValueError, match=r"checkpoint, .*same images"):
        quick_attribution(**options | {"images": 1 - pictures(1)})
    with pytest.raises(ValueError, match=r"checkpoint, .*same taxonomy"):
        quick_attribution(**options, taxonomy={"ground": ["snow"]})
    brighter = tiny_classifier()
    with torch.no_grad():
        brighter(pictures(1))
        next(brighter.parameters()).mul_(2)
    with pytest.raises(ValueError, match=r"checkpoint, .*same classifier"):
        quick_attribution(brighter, **options)
    with pytest.raises(TypeError, match="checkpoint: wanted a folder"):
        quick_attribution(images=pictures(1), checkpoint=3)


def test_a_damaged_step_is_named(tmp_path: Path) -> None:
    options = {"images": pictures(1), "beam_width": 1, "checkpoint": tmp_path / "c"}
    wanted = quick_attribution(**options)
    path = sorted((tmp_path / "c").glob("*.step"))[0]
    assert path.name != "answers.step"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptFileError, match=path.name):
        quick_attribution(**options)
    path.unlink()
    assert same(quick_attribution(**options), wanted)
