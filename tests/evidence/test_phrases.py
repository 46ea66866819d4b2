"""Captions of scenes: what the tiny world's grammar says, and what plain lists say."""

import pytest

from diffexplain_fast.evidence.concepts import Concepts, tiny_world_concepts
from diffexplain_fast.evidence.phrases import check_captions, phrases_of, surely_fit
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from tests.tiny import tiny_sd

SCENE = {"object": "boat", "colour": "red", "texture": "plain", "background": "sea", "companion": "sun"}


@pytest.fixture(scope="module")
def world() -> Pipeline:
    """Return the pipeline of the tiny world."""
    return load_pipeline("tinyworld")


def test_every_phrasing_of_the_tiny_world_says_every_value(world: Pipeline) -> None:
    phrases = phrases_of(tiny_world_concepts(world), world)
    captions = [phrases.say({**SCENE, "texture": "striped"}, (), number) for number in range(phrases.count)]
    assert all({"red", "striped", "boat", "sea", "sun"} <= set(text.split()) for text in captions)
    assert captions[1] == f"a picture of {captions[0]}"
    assert phrases.of_tiny_world and world.spells(" ".join(captions))


def test_phrasings_differ(world: Pipeline) -> None:
    phrases = phrases_of(tiny_world_concepts(world), world)
    assert len({phrases.say(SCENE, (), number) for number in range(phrases.count)}) == phrases.count


def test_absence_never_names_what_is_absent(world: Pipeline) -> None:
    phrases = phrases_of(tiny_world_concepts(world), world)
    with_sun, without = (phrases.say({**SCENE, "companion": name}, (), 0).split() for name in ("sun", "nothing"))
    assert set(without) - {"nothing"} == set(with_sun) - {"sun", "with"} | ({"with"} & set(without))


def test_lists_say_values_in_both_orders_and_are_silent_about_absence() -> None:
    pipeline = load_pipeline(tiny_sd())
    phrases = phrases_of(Concepts({"weather": ["snow", "nothing"], "colour": ["red", "blue"]}), pipeline)
    assert not phrases.of_tiny_world and phrases.silent
    assert phrases.count == 2  # this tokenizer cuts "picture", "image" and "scene"
    assert phrases.say({"weather": "snow", "colour": "red"}, ["tree"], 0) == "a photo of snow, red, tree"
    assert phrases.say({"weather": "snow", "colour": "red"}, ["tree"], 1) == "a photo of tree, red, snow"
    assert phrases.say({"weather": "nothing", "colour": "red"}, [], 0) == "a photo of red"
    assert phrases.say({}, [], 0) == "a photo"


def test_a_caption_that_would_be_truncated_is_named(world: Pipeline) -> None:
    check_captions(["a red boat"], world)
    long = " ".join(["boat"] * (world.max_tokens + 1))
    with pytest.raises(ValueError, match=r"concepts: wanted captions of at most .* which would be truncated"):
        check_captions(["a red boat", long], world)


def test_what_surely_fits_is_what_the_longest_caption_says(world: Pipeline) -> None:
    pipeline = load_pipeline(tiny_sd())
    concepts = Concepts({"background": ["desert", "snow"], "companion": ["nothing", "house"]}, ("red", "blue", "fish"))
    phrases, longest = phrases_of(concepts, pipeline), {"background": "snow", "companion": "house"}
    found = []
    for count in range(1, pipeline.max_tokens):
        name = " ".join(["tree"] * count)
        fit = surely_fit(concepts, phrases, pipeline, "object", ["boat", name], 2)
        scene = longest | {"object": name}
        captions = [phrases.say(scene, ["red", "fish"], number) for number in range(phrases.count)]
        assert fit == all(map(pipeline.fits, captions))
        found.append(fit)
    assert found == sorted(found, reverse=True) and found[0] and not found[-1]
    grammar = phrases_of(tiny_world_concepts(world), world)
    assert not surely_fit(tiny_world_concepts(world), grammar, world, "object", ["boat"], 2), "nothing is known of it"
