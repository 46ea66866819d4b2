"""Sizes, places, patterns, frames and marks: drawn where they belong, and not there unless asked for."""

import hashlib

import numpy as np
import pytest

from diffexplain_fast import tinyworld
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.tinyworld.words import NOTHING, USUAL

SEEDS = range(20, 28)
DRAWN_BEFORE = [
    (dict(seed=0), "4ba047a6b63e0c89"),
    (dict(seed=7), "deda746b14f22e3f"),
    (dict(object="nothing", seed=3), "37b3661cce4e73e5"),
    (
        dict(object="boat", colour="red", background="sea", companion="flag", texture="striped", seed=1),
        "e76e308d7160d6fe",
    ),
    (dict(object="mushroom", texture="dotted", background="night", companion="nothing", seed=11), "2a7a81c6020b218e"),
]


def digest(scene):
    found = hashlib.sha256(scene.image.tobytes())
    for name in sorted(scene.masks):
        found.update(name.encode())
        found.update(np.packbits(scene.masks[name]).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(("asked", "expected"), DRAWN_BEFORE)
def test_what_is_not_asked_for_leaves_the_picture_as_it_was(asked, expected):
    assert digest(tinyworld.render(**asked)) == expected
    absent = dict(size=USUAL, place=USUAL, pattern=NOTHING, frame=NOTHING, mark=NOTHING)
    assert digest(tinyworld.render(**asked, **absent)) == expected


EXTRAS = [
    *(dict(size=size, place=place) for size in tinyworld.SIZES for place in tinyworld.PLACES),
    *(dict(pattern=pattern) for pattern in tinyworld.PATTERNS),
    *(dict(frame=frame, mark="watermark", pattern="diagonal", size="large") for frame in tinyworld.FRAMES),
]


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: " ".join(extra.values()))
def test_masks_cover_every_pixel_once(extra):
    for seed in SEEDS:
        masks = tinyworld.render(seed=seed, **extra).masks
        assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()


@pytest.mark.parametrize("name", tinyworld.OBJECTS)
def test_a_size_is_beyond_every_usual_one(name):
    def areas(size):
        given = dict(object=name, companion="nothing", size=size)
        return [tinyworld.render(seed=seed, **given).masks[name].sum() for seed in range(20)]

    usual = areas(None)
    assert max(areas("small")) < 0.85 * min(usual)
    assert min(areas("large")) > max(usual)


@pytest.mark.parametrize("name", tinyworld.OBJECTS)
def test_a_place_is_beyond_every_usual_one(name):
    def columns(place):
        given = dict(object=name, companion="nothing", place=place, size="small")
        masks = [tinyworld.render(seed=seed, **given).masks[name] for seed in range(20)]
        return [np.nonzero(mask)[1].mean() for mask in masks]

    usual = columns(None)
    assert max(columns("left")) < min(usual) and min(columns("right")) > max(usual)


def test_a_companion_gives_way_to_the_object():
    for seed in range(12):
        masks = tinyworld.render(object="star", companion="sun", place="left", size="small", seed=seed).masks
        alone = tinyworld.render(object="nothing", companion="sun", place="left", size="small", seed=seed).masks
        assert np.array_equal(masks["sun"], alone["sun"])
        assert np.nonzero(masks["sun"])[1].mean() > np.nonzero(masks["star"])[1].mean() + 10


def test_a_frame_and_a_mark_change_their_masks_only():
    for asked in (dict(frame="dark"), dict(frame="gold"), dict(mark="watermark")):
        (name,) = asked.values()
        for seed in SEEDS:
            plain, scene = tinyworld.render(seed=seed), tinyworld.render(seed=seed, **asked)
            changed = (np.asarray(plain.image) != np.asarray(scene.image)).any(-1)
            assert not changed[~scene.masks[name]].any()
            assert changed[scene.masks[name]].mean() > 0.9


def test_a_pattern_changes_the_background_only_and_patterns_differ():
    for seed in SEEDS:
        given = dict(seed=seed, object="house", companion="flag")
        plain = tinyworld.render(**given)
        pictures = {p: np.asarray(tinyworld.render(pattern=p, **given).image).astype(int) for p in tinyworld.PATTERNS}
        behind = plain.masks[tinyworld.render(**given).caption.split(" on ")[1].split()[0]]
        for picture in pictures.values():
            changed = (picture != np.asarray(plain.image)).any(-1)
            assert 0.3 < changed[behind].mean() < 0.8
            assert changed[~behind].mean() < 0.15  # antialiased edges only
        assert (pictures["diagonal"] != pictures["checked"]).any(-1).mean() > 0.2


def test_the_nameless_are_in_no_caption():
    extra = dict(pattern="diagonal", frame="dark", mark="watermark")
    assert tinyworld.render("boat", "red", "sea", "flag", seed=1, **extra).caption == (
        tinyworld.render("boat", "red", "sea", "flag", seed=1).caption
    )
    scene = tinyworld.render("boat", "red", "sea", "flag", "plain", seed=1, size="small", place="left")
    assert scene.caption == "a small red boat at left on sea with flag"


@pytest.mark.parametrize(
    "asked",
    [dict(size="smal"), dict(place="lefts"), dict(mark="watermarc"), dict(pattern="diagona"), dict(frame="drk")],
)
def test_an_unknown_value_names_the_nearest(asked):
    ((name, value),) = asked.items()
    nearest = dict(size="small", place="left", mark="watermark", pattern="diagonal", frame="dark")[name]
    with pytest.raises(UnknownNameError, match=f"{name}: wanted .*{nearest}.*got '{value}'"):
        tinyworld.render(**asked)
