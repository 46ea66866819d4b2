"""Candidates: gathered from every source, each once, with what is a class's own declared."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.evidence.candidates import Candidates, checked, gather
from diffexplain_fast.methods.discovery.own import declared_by
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.taxonomy import Taxonomy
from tests.tiny import LABELS, tiny_classifier, tiny_sd

NEAR = {"boat": 0, "house": 1, "photo": 2, "red": 3, "blue": 3, "desert": 4, "snow": 5, "fish": 6, "tree": 7}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Return a tiny pipeline."""
    return load_pipeline(tiny_sd())


def embed(texts: Sequence[str]) -> np.ndarray:
    """Return one axis for each meaning; red and blue mean the same here."""
    return np.eye(10)[[NEAR.get(text, 9) for text in texts]]


def kept(found: Candidates) -> list[tuple[str, str]]:
    """Return word and source of what is kept."""
    return [(row.word, row.source) for row in found.rows if row.kept]


def test_every_source_is_gathered_once(pipeline: Pipeline) -> None:
    tree = Taxonomy({"background": ["desert", "snow"], "colour": ["red"]})
    captions = ["a boat on tree", "the boat and desert", "tree"]
    found = gather(pipeline, ["house", "Desert"], tree, ["fish", "snow"], captions, embed=embed)
    assert kept(found) == [
        ("house", "user"), ("desert", "taxonomy"), ("snow", "taxonomy"), ("red", "taxonomy"), ("fish", "found prompt"),
        ("boat", "caption"), ("tree", "caption"),
    ]  # fmt: skip
    assert found.concepts.groups == {"background": ("desert", "snow")}  # a group of one value is a free word
    assert set(found.concepts.words) == {"house", "red", "fish", "boat", "tree"}
    doubles = {row.word: row.same_as for row in found.rows if not row.kept}
    assert doubles == {"Desert": "desert", "snow": "snow"}


def test_texts_that_mean_the_same_are_one(pipeline: Pipeline) -> None:
    found = gather(pipeline, ["red", "blue", "boat", "boats", "zebra"], embed=embed)
    assert kept(found) == [("red", "user"), ("boat", "user")]
    assert next(row for row in found.rows if row.word == "blue").same_as == "red"
    assert not next(row for row in found.rows if row.word == "zebra").kept  # the tokenizer cuts it


def test_what_is_like_a_label_is_declared_by_likeness_and_the_user_comes_first(pipeline: Pipeline) -> None:
    labels = ["red fish, tree fish", "boat", "blue"]
    found = gather(pipeline, ["fish", "red", "tree", "house"], labels=labels, core={"boat": ["word:tree"]}, embed=embed)
    similar = {label: list(named) for label, named in found.concepts.similar.items()}
    assert similar == {"red fish, tree fish": ["word:fish"], "blue": ["word:red"]}
    names = list(found.concepts.names)
    assert declared_by(found.concepts, "blue", names.index("word:red")) == "similarity"
    assert declared_by(found.concepts, "boat", names.index("word:tree")) == "user"
    assert declared_by(found.concepts, "boat", names.index("word:house")) is None


def test_what_the_generator_does_not_draw_is_left_out(pipeline: Pipeline) -> None:
    words = ["desert", "snow", "tree", "house"]
    found = gather(pipeline, words, embed=embed, core={"boat": ["word:tree", "word:snow"]})

    def draw(captions: Sequence[str]) -> Tensor:
        value = words.index(captions[0].split()[-1])
        return torch.full((len(captions), 3, 2, 2), float(value)) + 0.01 * torch.rand(len(captions), 1, 1, 1)

    def see(pixels: Tensor, texts: Sequence[str]) -> np.ndarray:
        fits = np.random.default_rng(0).random((len(pixels), len(texts)))
        shown = pixels.mean((1, 2, 3)).round().long().numpy()
        for i, text in enumerate(texts):
            fits[:, i] += 2.0 * (shown == words.index(text.split()[-1])) * (not text.endswith("snow"))
        return fits

    left = checked(found, draw, see)
    assert set(left.concepts.words) == {"desert", "tree", "house"} and list(left.concepts.core["boat"]) == ["word:tree"]
    assert {row.word: (row.drawable or 0) > 0.9 for row in left.rows} == {
        "desert": True, "snow": False, "tree": True, "house": True
    }  # fmt: skip


def test_the_only_candidate_is_not_compared_and_kept(pipeline: Pipeline) -> None:
    found = gather(pipeline, ["desert"], embed=embed)
    left = checked(found, lambda texts: torch.zeros(len(texts), 3, 2, 2), _constant, each=4)
    assert [(row.word, row.drawable, row.kept) for row in left.rows] == [("desert", None, True)]


WRONG = {
    "text for words": ({"words": "boat"}, "words: wanted a list of texts, got str"),
    "numbers for words": ({"words": [3]}, "words: wanted a list of texts, got int"),
    "nothing in captions": ({"captions": [None]}, "captions: wanted a list of texts, got NoneType"),
    "a number for the taxonomy": ({"taxonomy": 3}, "taxonomy: wanted a Taxonomy, values of its JSON, a file"),
    "text for what was found": ({"found": "boat"}, "found: wanted a list of explanations"),
    "a list of core concepts": ({"words": ["boat"], "core": ["boat"]}, "core: wanted a dict"),
    "text for core concepts": ({"words": ["boat"], "core": {"fish": "boat"}}, "core, fish: wanted a list of texts"),
    "a number for the embedding": ({"words": ["boat"], "embed": 3}, "embed: wanted a function of texts"),
    "an embedding of one number": ({"words": ["boat", "desert"], "embed": lambda texts: 3}, "embed: .*numbers .2, d."),
    "eyes of one number": ({"words": ["boat"], "see": lambda *given: 3, "each": 4}, "see: .*numbers .4, 1."),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    given, message = WRONG[name]
    with (
        Explainer(load_pipeline(tiny_sd()), Classifier(tiny_classifier(), labels=LABELS)) as explainer,
        pytest.raises((TypeError, ValueError), match=message),
    ):
        explainer.candidates(**given)


def test_an_explainer_gathers_for_its_classifier() -> None:
    with Explainer(load_pipeline(tiny_sd()), Classifier(tiny_classifier(), labels=LABELS)) as explainer:
        found = explainer.candidates(["boat", "desert"], found=["snow"])
        assert found.concepts.similar["boat"] and "word:boat" in found.concepts.similar["boat"]
        with pytest.raises(ValueError, match="candidates: wanted at least one word"):
            explainer.candidates(["zebra"])
        with pytest.raises(TypeError, match="found: wanted explanations, or words"):
            explainer.candidates(found=[3])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="candidates: wanted at least one word"):
            explainer.candidates(["boat", "desert"], see=_constant, each=4)


def _constant(pixels: Tensor, texts: Sequence[str]) -> np.ndarray:
    """See nothing: every text fits every picture alike."""
    return np.zeros((len(pixels), len(texts)))
