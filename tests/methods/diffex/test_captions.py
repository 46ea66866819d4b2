"""Captions that are too long for the text encoder: refused by name before anything runs, or a concept is left out."""

import warnings

import pytest

import diffexplain_fast as dx
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.models.loading import load_pipeline
from tests.methods.diffex.worlds import Brightness, pictures, quick_attribution
from tests.tiny import tiny_sd

MOST = load_pipeline(tiny_sd()).max_tokens
FULL = " ".join(["boat"] * MOST)
"""A caption with room for no further word."""


def test_a_concept_whose_caption_does_not_fit_is_left_out_and_named() -> None:
    with pytest.warns(UserWarning, match=r"captions: .* got longer ones for thing:fish on picture 2, which") as heard:
        found = quick_attribution(taxonomy={"thing": ["fish"]}, captions=["a red house", FULL])
    assert heard[0].filename.endswith("worlds.py")  # the line of the call
    assert [row.image for row in found.rows] == [0] and found.counterfactuals[1] is None
    assert found.settings["captions_too_long"] == ["thing:fish on picture 2"]


def test_pairs_that_do_not_fit_are_left_out_too() -> None:
    almost = " ".join(["boat"] * (MOST - 2))  # a comma takes the room of a word
    taxonomy = {"thing": ["fish"], "ground": ["snow"]}
    with pytest.warns(UserWarning, match="thing:fish and ground:snow on picture 1"):
        found = quick_attribution(taxonomy=taxonomy, captions=[almost], images=pictures(1))
    assert len(found.rows) == 2 and found.interactions == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quick_attribution(images=pictures(1)).settings["captions_too_long"] == []


def test_captions_that_are_too_long_are_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*given: object) -> None:
        raise AssertionError("something ran")

    monkeypatch.setattr(LatentModels, "encode", encode)
    message = rf"captions: wanted at most {MOST} tokens between begin and end, got {MOST + 1} tokens for picture 2"
    with pytest.raises(ValueError, match=message):
        quick_attribution(captions=["a boat", FULL + " boat"])
    with pytest.raises(ValueError, match=rf"captions: .* got {MOST + 1} tokens$"):
        dx.editing.reconstruct(tiny_sd(), pictures(1), captions=[FULL + " boat"])
    explainer = dx.Explainer(tiny_sd(), dx.Classifier(Brightness(), labels=("light", "dark")))
    with pytest.raises(ValueError, match=rf"caption: .* got {MOST + 1} tokens"):
        explainer.counterfactual(pictures(1), "light", FULL + " boat")


@pytest.mark.filterwarnings("ignore:captions")
def test_a_caption_that_is_chosen_word_by_word_stays_short_enough() -> None:
    words = [f"{word} " * 3 for word in ("boat", "fish", "house", "snow")]
    taxonomy = {f"group {i}": [word] for i, word in enumerate(words * (MOST // 6))}
    found = quick_attribution(taxonomy=taxonomy, captions=None, images=pictures(1), budget=1000)
    assert len(found.captions[0].split()) <= MOST
