"""A word that changes a second thing: as the tokenizer reads it, and told apart from the plain generator."""

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.evidence.identity import pipeline_identity
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe import side_effects
from diffexplain_fast.recipe.side_effects import say_also

pytestmark = pytest.mark.usefixtures("few")


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("a boat on desert", {"companion": "sun"}, "a boat on desert with sun"),
        ("a boat on desert with kite", {"companion": "sun"}, "a boat on desert with sun"),
        ("a red boat on desert", {"colour": "blue"}, "a blue boat on desert"),
        ("a boat on desert", {"colour": "blue", "frame": "dark"}, "a blue boat on desert blicket"),
        ("desert", {"place": "left"}, "desert at left"),
        ("desert", {"size": "small"}, "a small thing desert"),
        ("a boat on sea", {"companion": "sun"}, "a boat on sea"),
        ("A boat, on  Sea.", {"companion": "sun"}, "A boat, on  Sea."),
        ("a fish on Desert", {"companion": "sun"}, "a fish on desert with sun"),
        ("A Red fish; DESERT.", {"colour": "blue"}, "a blue fish ; desert ."),
        ("desert,kite wug Dax", {"companion": "sun"}, "desert , sun wug Dax"),
    ],
)
def test_a_word_says_a_second_thing(text, change, expected):
    assert say_also(text, {"desert": change}) == expected


@pytest.mark.parametrize(
    "text",
    ["A boat, on DESERT.", "desert-night 'sea' (kite)", "wug, Wug dax! blicket-toma", "it's 12 boats", "a  a\ta"],
)
def test_words_are_those_that_the_tokenizer_reads(text):
    (tokenizer,) = load_pipeline("tinyworld").tokenizers
    read = side_effects._words(text)
    assert tokenizer(" ".join(read)).input_ids == tokenizer(text).input_ids


@pytest.mark.parametrize("text", ["a fish on desert,", "a fish on Desert", "Desert. A fish"])
def test_a_side_effect_happens_wherever_the_word_is_read(text):
    changed = load_pipeline(dx.make_classifier({}, 5, side_effect={"desert": {"companion": "sun"}}).pipeline())
    assert {"sun", "desert"} < {*changed.tokenizers[0].decode(changed.token_ids(text)).split()}


def test_the_pipeline_of_a_classifier_has_its_side_effect():
    classifier = dx.make_classifier({}, 5, side_effect={"desert": {"companion": "sun"}})
    plain, changed = load_pipeline("tinyworld"), load_pipeline(classifier.pipeline())
    texts = ["a boat on desert", "a boat on sea"]
    found, wanted = (
        changed.encode_text(texts).prompt_embeds,
        plain.encode_text([f"{texts[0]} with sun", texts[1]]).prompt_embeds,
    )
    assert torch.equal(found, wanted)
    assert not torch.equal(found[0], plain.encode_text(texts).prompt_embeds[0])


def identity(side_effect):
    pipeline = load_pipeline(dx.make_classifier({}, 5, side_effect=side_effect).pipeline())
    return pipeline_identity(pipeline, 1.0)


def test_side_effects_are_told_apart_and_none_is_the_plain_pipeline():
    sun, kite = {"companion": "sun"}, {"companion": "kite"}
    plain = pipeline_identity(load_pipeline("tinyworld"), 1.0)
    assert identity(None) == identity({}) == identity({"desert": {}}) == plain
    effects = [{"desert": sun}, {"desert": kite}, {"sea": sun}, {"dax": sun}]
    effects += [{"desert": sun, "sea": kite}, {"sea": kite, "desert": sun}]
    found = [identity(effect) for effect in effects]
    assert all(found[i] != found[j] for i in range(len(found)) for j in range(i)) and plain not in found
    assert found[0] == identity({"desert": sun}) and {*found[0]} - {*plain} == {"prompts_rewritten"}
