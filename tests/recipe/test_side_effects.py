"""A word that changes a second thing: as the tokenizer reads it, and told apart from the plain generator."""

import numpy as np
import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.evidence.identity import pipeline_identity
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe import side_effects
from diffexplain_fast.recipe.side_effects import say_also
from diffexplain_fast.tinyworld.grammar import draw_world, full_caption
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, WORLD

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
        ("nothing on desert", {"colour": "red", "object": "boat"}, "a red boat on desert"),
        ("nothing on desert", {"colour": "red", "texture": "dotted"}, "red dotted nothing on desert"),
        ("nothing on desert", {"companion": "sun"}, "nothing on desert with sun"),
        ("a small nothing on desert", {"object": "boat"}, "a small boat on desert"),
        ("a small red fish on desert", {"object": "nothing"}, "nothing on desert"),
        ("red on desert", {"object": "nothing"}, "nothing on desert"),
        ("desert with nothing", {"companion": "sun", "object": "boat"}, "a boat desert with sun"),
        (
            "a red nothing on desert with nothing",
            {"colour": "blue", "companion": "kite"},
            "a blue nothing on desert with kite",
        ),
        ("sun, desert", {"companion": "nothing"}, "with nothing , desert"),
        ("desert", {"size": "small", "colour": "red", "object": "boat"}, "a small red boat desert"),
        ("a red on desert", {"texture": "dotted", "size": "small"}, "a small red dotted thing on desert"),
        ("a picture of desert", {"object": "boat", "colour": "red"}, "a picture of a red boat desert"),
        ("a picture with sun on desert", {"object": "boat"}, "a boat with sun on desert"),
        ("a boat on desert with sun wug", {"place": "left"}, "a boat at left on desert with sun wug"),
        ("a boat on desert wug", {"companion": "sun"}, "a boat on desert with sun wug"),
    ],
)
def test_a_word_says_a_second_thing(text, change, expected):
    assert say_also(text, {"desert": change}) == expected
    assert say_also(text, {"desert": dict(reversed(change.items()))}) == expected


@pytest.mark.parametrize(
    ("text", "effect", "expected"),
    [
        ("a fish on sea", {"texture": "dotted", "colour": "red", "size": "small"}, "a small red dotted fish on sea"),
        ("a red fish", {"size": "small"}, "a small red fish"),
        ("a dotted fish", {"colour": "red", "size": "small"}, "a small red dotted fish"),
        ("a small fish", {"texture": "dotted", "colour": "red"}, "a small red dotted fish"),
        ("a warm fish", {"texture": "dotted", "size": "small"}, "a small warm dotted fish"),
        ("a red shiny fish", {"size": "small"}, "a small red shiny fish"),
        ("on sea a red fish", {"texture": "dotted", "size": "small"}, "on sea a small red dotted fish"),
    ],
)
def test_adjectives_have_the_order_of_captions(text, effect, expected):
    for changes in (effect, dict(reversed(effect.items()))):
        assert say_also(text, {"fish": changes}) == expected
    words = [{"fish": {name: value}} for name, value in effect.items()]
    for one in (words, words[::-1]):
        said = text
        for change in one:
            said = say_also(said, change)
        assert said == expected


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("a texture of red", {"texture": "striped"}, "a texture of red striped"),
        ("a texture of striped", {"colour": "red"}, "a texture of red striped"),
        ("a texture of", {"colour": "red", "texture": "dotted"}, "a texture of red dotted"),
        ("a shape of fish", {"colour": "red"}, "a shape of red fish"),
    ],
)
def test_a_surface_has_its_words_where_its_captions_have_them(text, change, expected):
    assert say_also(text, {text.split()[-1]: change}) == expected


@pytest.mark.parametrize("seed", range(40))
def test_a_caption_with_a_side_effect_is_one_of_the_grammar(seed):
    """Whatever a full caption says, and in whatever order the second values are given."""
    rng = np.random.default_rng(seed)
    scene = draw_world(rng) | {"style": "scene", "object": str(rng.choice(OBJECTS))}
    other = draw_world(np.random.default_rng(seed + 1000))
    names = [name for name in rng.permutation([*WORLD]) if other[name] != ABSENCE.get(name)][:4]
    changes = {name: other[name] for name in names}
    wanted = full_caption(scene | changes, nameless=True)
    assert say_also(full_caption(scene, nameless=True), {scene["background"]: changes}) == wanted


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
