"""The renderer: the same seed gives the same picture, masks cover it, and one attribute changes one thing."""

import time

import numpy as np
import pytest

from diffexplain_fast import tinyworld
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.tinyworld.words import VOCABULARY, caption, draw_attributes, varied_caption


def pixels(**attributes):
    return np.asarray(tinyworld.render(**attributes).image)


def test_the_world_is_as_rich_as_promised():
    assert len(tinyworld.OBJECTS) >= 8
    assert len(tinyworld.BACKGROUNDS) >= 5
    assert len(tinyworld.COMPANIONS) >= 5
    assert len(tinyworld.COLOURS) >= 6
    assert len(tinyworld.TEXTURES) >= 3


def test_a_seed_fixes_the_picture_and_another_moves_it():
    assert np.array_equal(pixels(object="boat", seed=3), pixels(object="boat", seed=3))
    places = {tuple(np.argwhere(tinyworld.render(object="boat", seed=s).masks["boat"]).mean(0)) for s in range(8)}
    assert len(places) == 8
    sizes = {int(tinyworld.render(object="boat", companion="sun", seed=s).masks["boat"].sum()) for s in range(8)}
    assert max(sizes) > 1.2 * min(sizes)


@pytest.mark.parametrize("seed", range(12))
def test_masks_cover_every_pixel_once(seed):
    scene = tinyworld.render(seed=seed)
    cover = sum(mask.astype(int) for mask in scene.masks.values())
    assert scene.image.size == (tinyworld.SIZE, tinyworld.SIZE)
    assert (cover == 1).all()


@pytest.mark.parametrize("name", tinyworld.OBJECTS)
def test_the_mask_is_where_the_object_is(name):
    given = dict(background="sea", companion="nothing", colour="red", texture="plain", seed=5)
    scene, empty = tinyworld.render(object=name, **given), tinyworld.render(object="nothing", **given)
    changed = (np.asarray(scene.image).astype(int) != np.asarray(empty.image)).any(-1)
    assert changed[scene.masks[name]].mean() > 0.99
    assert changed[~scene.masks[name]].mean() < 0.1  # antialiased edges only
    assert 0.03 < scene.masks[name].mean() < 0.35


@pytest.mark.parametrize("attribute", ["colour", "texture", "object", "companion"])
def test_a_counterfactual_pair_differs_only_there(attribute):
    values = {
        "colour": ("red", "blue"),
        "texture": ("plain", "striped"),
        "object": ("boat", "car"),
        "companion": ("sun", "flag"),
    }[attribute]
    base = dict(object="boat", colour="red", background="grass", companion="sun", texture="plain", seed=9)
    first, second = (tinyworld.render(**(base | {attribute: value})) for value in values)
    changed = (np.asarray(first.image) != np.asarray(second.image)).any(-1)
    element = "companion" if attribute == "companion" else "object"
    elsewhere = np.ones_like(changed)
    for scene in (first, second):
        for name in (*tinyworld.OBJECTS, *tinyworld.COMPANIONS):
            if name in scene.masks and (name in tinyworld.COMPANIONS) == (element == "companion"):
                elsewhere &= ~scene.masks[name]
    assert changed.any()
    assert changed[elsewhere].mean() < 0.1


def test_captions_say_what_is_there_in_words_of_the_vocabulary():
    scene = tinyworld.render("boat", "red", "sea", "flag", "striped", seed=1)
    assert scene.caption == "a red striped boat on sea with flag"
    assert tinyworld.render("nothing", "red", "sea", "nothing", "plain", seed=1).caption == "sea"
    rng = np.random.default_rng(0)
    for _ in range(300):
        attributes = draw_attributes(rng)
        for text in (caption(attributes), varied_caption(attributes, rng)):
            assert set(text.split()) <= set(VOCABULARY), text


def test_an_unknown_value_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"background: wanted .*desert.*got 'dessert'"):
        tinyworld.render(background="dessert")


def test_a_picture_takes_milliseconds():
    start = time.process_time()
    for seed in range(50):
        tinyworld.render(seed=seed)
    assert (time.process_time() - start) / 50 < 0.02
