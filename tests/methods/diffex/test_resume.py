"""Attributions with a checkpoint: killed at any step they end as if nothing had happened, and nothing is run twice."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

import diffexplain_fast as dx
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.evidence.shipped import Shipped
from diffexplain_fast.methods.diffex import kinds, resuming, screening
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from tests.methods.diffex.worlds import pictures, quick_attribution
from tests.tiny import tiny_classifier, tiny_sd

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
    monkeypatch.setattr(screening, "SCREENED_ABOVE", 3)
    monkeypatch.setattr(screening, "FINALISTS", 2)
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
    for wrong, error in ((3, TypeError), ("", ValueError), ("a\0b", ValueError)):
        with pytest.raises(error, match="checkpoint: wanted a path"):
            quick_attribution(images=pictures(1), checkpoint=wrong)


def _other_noise() -> Any:
    pipe = tiny_sd()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, beta_end=0.02)
    return pipe


def _other_text() -> Pipeline:
    return load_pipeline(tiny_sd(), call_options={"clip_skip": 1})


def _other_settings() -> Any:
    pipe = tiny_sd()
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    return pipe


@pytest.mark.parametrize(
    ("pipe", "named"),
    [(_other_noise, "noise"), (_other_text, "call_options"), (_other_settings, "unet_settings")],
)
def test_a_pipeline_of_equal_weights_that_draws_otherwise_is_another_one(
    pipe: Callable[[], Any], named: str, tmp_path: Path
) -> None:
    options = {"images": pictures(1), "beam_width": 1, "checkpoint": tmp_path / "c"}
    quick_attribution(**options)
    with pytest.raises(ValueError, match=rf"checkpoint, .*same {named} in"):
        quick_attribution(pipe=pipe(), **options)


def test_constants_of_editors_and_other_models_that_see_are_another_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"images": pictures(1), "beam_width": 1, "checkpoint": tmp_path / "c"}
    quick_attribution(**options)
    with monkeypatch.context() as patch:
        patch.setattr(kinds, "STRENGTH", 2.0)
        with pytest.raises(ValueError, match=r"checkpoint, .*same editors in"):
            quick_attribution(**options)
    monkeypatch.setattr(resuming, "shipped_with", lambda _: Shipped(segmenter=SimpleNamespace(fingerprint=lambda: "a")))
    with pytest.raises(ValueError, match=r"checkpoint, .*same seen by in"):
        quick_attribution(**options)


@pytest.mark.parametrize("changed", [{"seeds": 2}, {"budget": 120}])
def test_more_seeds_and_a_larger_budget_are_what_they_are_without_a_checkpoint(
    changed: dict[str, int], tmp_path: Path
) -> None:
    options = {"taxonomy": {"ground": ["snow", "desert"]}, "images": pictures(1), "captions": ["a fish"], "budget": 60}
    quick_attribution(**options, checkpoint=tmp_path / "c")
    options |= {"budget": None} | changed
    assert same(quick_attribution(**options, checkpoint=tmp_path / "c"), quick_attribution(**options))


def test_a_larger_budget_keeps_the_pictures_of_which_every_concept_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"taxonomy": {"ground": ["snow", "desert", "tree"]}, "captions": ["a fish"] * 2, "beam_width": 1}
    options |= {"images": pictures(2), "editor": "guide", "checkpoint": tmp_path / "c"}
    count = killed_after(-1, monkeypatch)
    wanted, of_all = quick_attribution(**options | {"checkpoint": None}), count()
    cut = quick_attribution(**options, budget=150)
    assert [row.image for row in cut.rows] == [0, 0, 0, 1]
    before = count()
    assert same(quick_attribution(**options), wanted)
    # Of the first picture an inversion and eight steps are there, with and without the words that are added.
    assert count() - before <= of_all - 17


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
