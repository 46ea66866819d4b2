"""The paper's own scores: what is there, how much of it, and what its removal does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.segments.segments import Explained, segment_rows
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.results.segments import PrefixRow, SegmentRow, texture_sentence
from tests.explaining import QUICK
from tests.tiny import LABELS, tiny_classifier, tiny_sd

PIPELINE = load_pipeline(tiny_sd())
CONCEPTS = Concepts({"background": ["snow", "desert"], "companion": ["boat", "nothing"]})


def segment(pixels: Tensor, texts: Sequence[str]) -> Tensor:
    """Find snow in the left half of every picture, a boat in half of the pictures, desert nowhere."""
    found = torch.zeros_like(pixels[:, :1], dtype=torch.bool)
    for i, text in enumerate(texts):
        if text == "snow" or (text == "boat" and i % 2):
            found[i, :, :, : pixels.shape[-1] // (2 if text == "snow" else 4)] = True
    return found


def ask(word: str, group: str) -> str | None:
    """Return the word, except for absence."""
    return None if word == "nothing" else word


def scored(value: Any, most: int = 2) -> dict[str, SegmentRow]:
    """Return rows of four pictures by concept."""
    size = PIPELINE.image_size
    pixels = torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
    explained = Explained("boat", pixels, pixels[:2], PIPELINE.encode_text(["a boat"]), value)
    rows = segment_rows(explained, CONCEPTS, segment, ask, LatentModels(PIPELINE, one_shape=False), most, 0)
    return {row.concept: row for row in rows}


def test_presence_and_pixels_are_those_of_the_masks() -> None:
    rows = scored(lambda pixels: pixels.mean((1, 2, 3)))
    assert list(rows) == ["background:snow", "background:desert", "companion:boat"]
    snow, desert, boat = rows.values()
    assert (snow.presence, snow.usual, snow.pixels) == (1, 1, 0.5) and snow.removed == 2 and snow.low is not None
    assert (desert.presence, desert.pixels, desert.drop, desert.removed) == (0, None, None, 0)
    assert (boat.presence, boat.usual, boat.pixels) == (0.5, 0.5, 0.25)


def test_a_drop_is_what_removal_does_beyond_drawing_anew() -> None:
    right = slice(PIPELINE.image_size[1] // 2 + 4, None)
    rows = scored(lambda pixels: pixels[..., right].mean((1, 2, 3)))
    assert rows["background:snow"].drop == pytest.approx(0, abs=1e-6)  # what was not drawn anew is as it was
    left = scored(lambda pixels: pixels[..., :4].mean((1, 2, 3)))
    assert abs(left["background:snow"].drop or 0) > 1e-4
    assert scored(lambda pixels: pixels.mean((1, 2, 3)), most=0)["background:snow"].drop is None


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    """Return an explainer of the tiny classifier."""
    return Explainer(PIPELINE, Classifier(tiny_classifier(), labels=LABELS))


def test_an_explanation_is_scored(explainer: Explainer) -> None:
    rows, found = explainer.prefixes("boat", ("", "a photo of"), **{**QUICK, "n_tokens": 1})
    assert [row.prefix for row in rows] == ["", "a photo of"] and all(len(row.words) == 1 for row in rows)
    assert rows[0].rate == found[0].activation["held_out"].rate
    segments = explainer.segments(found[1], CONCEPTS.groups, segmenter=segment, removed=1)
    assert [row.concept for row in segments] == ["background:snow", "background:desert", "companion:boat"]
    assert segments[0].drop is not None and segments[0].low is None and segments[0].usual is not None


def test_what_cannot_be_scored_is_refused(explainer: Explainer) -> None:
    found: Explanation = explainer.explain("boat", **QUICK)
    with pytest.raises(ValueError, match="segmenter: wanted a function of pixels and texts"):
        explainer.segments(found, CONCEPTS.groups)
    with pytest.raises(TypeError, match="explanation: wanted an Explanation"):
        explainer.segments("boat")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="removed: wanted at least 0"):
        explainer.segments(found, removed=-1)
    with pytest.raises(ValueError, match="prefixes: wanted at least one, each once"):
        explainer.prefixes("boat", ("", ""))
    with pytest.raises(TypeError, match="prefixes: wanted texts, got int"):
        explainer.prefixes("boat", 3)
    with pytest.raises(TypeError, match="prefix: wanted text, got "):
        explainer.prefixes("boat", (["a photo of"],))


def test_a_drop_is_of_the_whole_prompt_with_its_prefix(explainer: Explainer) -> None:
    found = explainer.explain("boat", prefix="a photo of", **QUICK)
    (row,) = explainer.segments(found, ["snow"], segmenter=segment, removed=1)
    whole = torch.cat([PIPELINE.token_embeddings("a photo of"), found.prompt_embeds])
    found.settings["options"]["prefix"] = ""
    (same,) = explainer.segments(replace(found, prompt_embeds=whole), ["snow"], segmenter=segment, removed=1)
    (other,) = explainer.segments(found, ["snow"], segmenter=segment, removed=1)
    assert row.drop == pytest.approx(same.drop, rel=1e-4) and row.drop != pytest.approx(other.drop, rel=1e-4)


@pytest.mark.parametrize(
    ("target", "labels", "name"),
    [
        ("crane (2)", ("crane", "fish", "crane", "tree"), "crane (2)"),
        (2, None, "2"),
        ("boat", LABELS, "boat"),
        ("logit:boat - 10*logit:fish", LABELS, "boat"),
        ("2*logit:crane (2) - logit:fish", ("crane", "fish", "crane", "tree"), "crane (2)"),
    ],
)
def test_a_row_names_the_class_whose_drop_it_has(target: Any, labels: tuple[str, ...] | None, name: str) -> None:
    classifier = Classifier(tiny_classifier(), labels=labels)
    with Explainer(PIPELINE, classifier) as explainer:
        found = explainer.explain(target, **QUICK)
        (row,) = explainer.segments(found, ["snow"], segmenter=segment, removed=1)
        plain = replace(found, target=f"ClassProbability({name})")
        del found.settings["class_index"]  # as in files of earlier versions
        assert row.target == name and row.drop is not None
        assert explainer.segments(plain, ["snow"], segmenter=segment, removed=1) == [row]


def row(prefix: str, rate: float | None, low: float | None, high: float | None) -> PrefixRow:
    """Return a row of a prefix."""
    return PrefixRow("fish", prefix, rate, low, high, 0.0, [], 20)


def test_a_texture_bias_is_said_only_where_the_intervals_are_apart() -> None:
    texture, shape = row("a texture of", 0.9, 0.7, 0.97), row("a shape of", 0.1, 0.03, 0.3)
    assert texture_sentence(texture, shape) == (
        "fish: answered in 90 % of pictures of 'a texture of' and in 10 % of 'a shape of': "
        "a texture is enough, as in a texture bias."
    )
    assert "a shape is enough" in texture_sentence(shape, texture)
    assert "overlap" in texture_sentence(texture, texture)
    assert "no answers" in texture_sentence(row("", None, None, None), shape)
