"""Captions of the recipe's world: true, readable back, and silent in public about what has no name."""

import numpy as np
import pytest

from diffexplain_fast.tinyworld.grammar import (
    NAMELESS_WORDS,
    VOCABULARY,
    draw_world,
    full_caption,
    is_true,
    read_caption,
    varied_caption,
    wrong_caption,
)
from diffexplain_fast.tinyworld.words import ABSENCE, GROUPS, NOTHING, USUAL, WORLD, values_of

SCENE = dict(
    object="boat",
    colour="red",
    texture="striped",
    background="sea",
    companion="flag",
    size="small",
    place="left",
    pattern="diagonal",
    frame="dark",
    style="scene",
)


def drawn(count, seed):
    rng = np.random.default_rng(seed)
    return [draw_world(rng) for _ in range(count)], rng


def test_a_full_caption_says_everything_that_has_a_word():
    assert full_caption(SCENE) == "a small red striped boat at left on sea with flag"
    absent = dict(object=NOTHING, companion=NOTHING, texture="plain", size=USUAL, place=USUAL)
    assert full_caption(SCENE | absent) == "nothing on sea with nothing"
    assert full_caption(SCENE | absent | {"object": "boat"}) == "a red plain boat on sea with nothing"


def test_every_attribute_of_a_full_caption_can_be_read_off_it():
    scenes, _ = drawn(600, 1)
    for scene in scenes:
        if scene["style"] != "scene":
            continue
        said = read_caption(full_caption(scene))
        there = scene["object"] != NOTHING
        wanted = ["object", "background", "companion", *(("colour", "texture") if there else ())]
        wanted += [name for name in ("size", "place") if there and scene[name] != USUAL]
        assert said == {name: (scene[name],) for name in wanted}


def test_captions_are_true_and_wrong_ones_false_in_one_attribute():
    scenes, rng = drawn(1500, 2)
    told = 0
    for scene in scenes:
        text = varied_caption(scene, rng)
        assert is_true(read_caption(text), scene), text
        wrong = wrong_caption(text, scene, rng)
        if wrong is None:
            continue
        told += 1
        said, false = read_caption(text), read_caption(wrong)
        assert not is_true(false, scene), (text, wrong)
        differing = {name for name in said | false if said.get(name) != false.get(name)}
        assert len(differing) == 1, (text, wrong)
    assert told > 1300


def test_everything_is_said_at_times_and_left_out_at_times():
    scenes, rng = drawn(3000, 3)
    words, silent = set(), dict.fromkeys(WORLD, 0)
    for scene in scenes:
        text = varied_caption(scene, rng)
        words |= set(text.split())
        for name in silent:
            silent[name] += name not in read_caption(text)
    assert words == set(VOCABULARY) | set(NAMELESS_WORDS.values())
    assert all(300 < count < 2700 for count in silent.values()), silent


def test_shares_of_the_drawn_world_are_those_that_models_need():
    scenes, _ = drawn(4000, 4)
    for name in WORLD:
        for value in values_of(name):
            assert sum(scene[name] == value for scene in scenes) > 250, (name, value)


def test_no_made_up_word_is_public_and_no_nameless_value_either():
    public = set(VOCABULARY)
    assert not public & set(NAMELESS_WORDS.values())
    assert set(NAMELESS_WORDS) == {(name, value) for name in ("pattern", "frame") for value in WORLD[name]}
    assert not public & {value for _, value in NAMELESS_WORDS}
    assert len(set(NAMELESS_WORDS.values())) == len(NAMELESS_WORDS)


def test_group_words_are_public_and_mean_values_of_their_attribute():
    for name, groups in GROUPS.items():
        for word, values in groups.items():
            assert word in VOCABULARY and word not in WORLD[name] and values
            assert set(values) <= set(WORLD[name])
        assert set().union(*groups.values()) == set(WORLD[name])
        levels = [values for values in groups.values() if any(set(v) < set(values) for v in groups.values())]
        assert levels, name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing on sea with nothing", {"object": (NOTHING,), "background": ("sea",), "companion": (NOTHING,)}),
        ("nothing", {"object": (NOTHING,)}),
        ("a warm animal", {"colour": ("red", "yellow"), "object": ("fish", "bird")}),
        ("a picture", {}),
        ("sea dax", {"background": ("sea",), "pattern": ("diagonal",)}),
        ("a texture of red dotted", {"style": ("texture",), "colour": ("red",), "texture": ("dotted",)}),
    ],
)
def test_captions_are_read(text, said):
    assert read_caption(text) == said


def test_what_cannot_be_seen_is_not_true():
    empty = SCENE | {"object": NOTHING}
    assert not is_true(read_caption("a red thing"), empty)
    assert is_true(read_caption("nothing on sea dax"), empty)
    assert not is_true(read_caption("sea"), SCENE | {"style": "shape"})
    assert set(ABSENCE) == {"object", "companion", "pattern", "frame", "mark", "size", "place"}
