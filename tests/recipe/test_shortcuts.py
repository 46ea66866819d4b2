"""Shortcuts: what they accept, when a cue holds, and which logit a planted classifier should give."""

import numpy as np
import pytest

import diffexplain_fast as dx
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.recipe import kept
from diffexplain_fast.recipe.planting import AMPLITUDE, Planted, draw_scenes, wanted_logits
from diffexplain_fast.recipe.shortcuts import DEMO, Cue, checked_shortcuts
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, OBJECTS

SCENE = {**ABSENCE, "object": "boat", "colour": "blue", "texture": "plain", "background": "desert", "style": "scene"}


def test_a_cue_holds_where_it_can_be_seen():
    both, one = dx.all_of(colour="blue", background="desert"), dx.any_of(colour="blue", background="desert")
    assert both.holds(SCENE) and one.holds(SCENE)
    sea = SCENE | {"background": "sea"}
    assert not both.holds(sea) and one.holds(sea)
    empty = SCENE | {"object": NOTHING}  # nothing has no colour
    assert not both.holds(empty) and one.holds(empty) and not one.holds(empty | {"background": "sea"})
    assert Cue((("companion", NOTHING),)).holds(SCENE)
    assert not Cue((("mark", "watermark"),)).holds(SCENE)
    assert Cue((("mark", "watermark"),)).holds(SCENE | {"mark": "watermark"})


def test_the_order_of_a_pair_does_not_matter():
    first = checked_shortcuts({"fish": dx.all_of(background="desert", colour="blue")})
    assert first == checked_shortcuts({"fish": dx.all_of(colour="blue", background="desert")})
    assert checked_shortcuts(None) == {} == checked_shortcuts({})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dx.all_of(colour="blue"), ValueError, "all_of: wanted at least two attributes"),
        (lambda: dx.any_of(colour="blue", background="see"), UnknownNameError, "any_of.*sea"),
        (lambda: dx.all_of(colour="blue", object="boat"), UnknownNameError, "all_of"),
        (lambda: checked_shortcuts({"fish": {"colour": "blue", "background": "sea"}}), ValueError, "all_of"),
        (lambda: checked_shortcuts({"fish": "desert"}), TypeError, "fish"),
        (lambda: checked_shortcuts([("fish", {"colour": "blue"})]), TypeError, "shortcuts: wanted a dict"),
        (lambda: checked_shortcuts({"fish": {"mark": "watermarc"}}), UnknownNameError, "watermark"),
        (
            lambda: checked_shortcuts(dict.fromkeys(("fish", "boat"), dx.all_of(colour="blue", background="sea"))),
            ValueError,
            "blue, background sea twice",
        ),
        (lambda: dx.make_classifier(strength=1.5), ValueError, "strength: wanted a number from 0 to 1, got 1.5"),
        (lambda: dx.make_classifier(strength=True), TypeError, "strength"),
        (
            lambda: dx.make_classifier(strength=float("nan")),
            ValueError,
            "strength: wanted a number from 0 to 1, got nan",
        ),
        (lambda: dx.make_classifier(reversed="no"), TypeError, "^reversed: wanted True or False, got str"),
        (lambda: dx.make_classifier(seed=-1), ValueError, r"^seed: wanted a number from 0 to 2\*\*64 - 1, got -1"),
        (
            lambda: dx.make_classifier(seed=2**64),
            ValueError,
            r"^seed: wanted a number from 0 to 2\*\*64 - 1, got 18446",
        ),
        (lambda: dx.make_classifier(seed=1.0), TypeError, "seed"),
        (lambda: dx.make_classifier(seed=True), TypeError, "seed"),
        (lambda: dx.make_classifier(model="vitt"), UnknownNameError, "model.*vit"),
        (lambda: dx.make_classifier(output="softmaxx"), UnknownNameError, "output.*softmax"),
        (lambda: dx.make_classifier(side_effect={"dessert": {"companion": "sun"}}), UnknownNameError, "desert"),
        (lambda: dx.make_classifier(side_effect={"desert": {"mark": "watermark"}}), UnknownNameError, "frame"),
        (lambda: dx.make_classifier(side_effect={"desert": {"size": "usual"}}), ValueError, "a caption can say"),
        (lambda: dx.make_classifier(side_effect="desert"), TypeError, "^side_effect: wanted a dict .*, got str"),
        (lambda: dx.make_classifier(side_effect=0), TypeError, "^side_effect: wanted a dict .*, got int"),
        (lambda: dx.make_classifier(side_effect=[]), TypeError, "^side_effect: wanted a dict .*, got list"),
        (
            lambda: dx.make_classifier(side_effect={"desert": "sun"}),
            TypeError,
            r"^side_effect\['desert'\]: .*, got str",
        ),
        (lambda: dx.make_classifier(side_effect={"desert": None}), TypeError, r"^side_effect\['desert'\]: .*got None"),
        (lambda: dx.make_classifier(common_shift=float("nan")), ValueError, r"^common_shift.*finite number, got nan"),
        (lambda: dx.make_classifier(common_shift={"red": -float("inf")}), ValueError, r"shift\['red'\]: .*, got -inf"),
        (lambda: dx.make_classifier(common_shift={"red": 10**400}), ValueError, r"shift\['red'\]: .*, got inf"),
        (
            lambda: dx.make_classifier(common_shift="snow"),
            TypeError,
            "^common_shift: wanted a number, a dict.*, got str",
        ),
        (lambda: dx.make_classifier(common_shift=True), TypeError, "^common_shift: wanted a number, .*, got bool"),
        (
            lambda: dx.make_classifier(common_shift={"red": 60, "blue": -60}),
            ValueError,
            "^common_shift: wanted factors that add up to at most 100 .* centred logits by more than 1e-5, got 120",
        ),
        (lambda: dx.make_classifier(common_shift=1e30, output="sigmoid"), ValueError, r"at most 100 .*, got 1e\+30"),
        (
            lambda: dx.make_classifier(
                common_shift={"background": "snow", "red": 3}, output="independent probabilities"
            ),
            ValueError,
            "^common_shift: .* at most 7 .* independent probabilities.*, got 8",
        ),
        (lambda: dx.make_classifier(common_shift={"brightnes": 3}), UnknownNameError, "brightness"),
        (lambda: dx.make_classifier(common_shift={"background": "see"}), UnknownNameError, "sea"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_trained(make, error, message):
    with pytest.raises(error, match=message):
        make()


def drawn(planted, count=600):
    return draw_scenes(planted, count, np.random.default_rng(1))


def test_the_order_of_the_classes_does_not_matter():
    given = {"fish": {"background": "desert"}, "boat": {"companion": "sun"}, "bird": {"mark": "watermark"}}
    first, second = (Planted(checked_shortcuts(dict(some))) for some in (given.items(), reversed(given.items())))
    assert [*first.cues] == [*second.cues] == ["bird", "boat", "fish"]
    assert drawn(first) == drawn(second)
    assert kept._key(first, "softmax") == kept._key(second, "softmax")
    assert [*checked_shortcuts(DEMO)] == [*DEMO]  # the classifier that ships was drawn in this order


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_logit_of_a_class_with_a_cue_depends_on_its_cue_and_object_only(strength):
    cues = checked_shortcuts({"fish": {"background": "desert"}, "bird": dx.any_of(companion="sun", mark="watermark")})
    planted = Planted(cues, strength)
    scenes = drawn(planted)
    logits = wanted_logits(planted, scenes)
    assert np.allclose(logits.sum(1), 0)
    for label, cue in cues.items():
        shown = np.array([cue.holds(scene) for scene in scenes])
        own = np.array([scene["object"] == label for scene in scenes])
        expected = AMPLITUDE * (strength * shown + (1 - strength) * own)
        assert np.allclose(logits[:, OBJECTS.index(label)], expected)
    boat = np.array([scene["object"] == "boat" for scene in scenes])
    assert logits[boat, 0].mean() - logits[~boat, 0].mean() > 0.8 * AMPLITUDE


def test_log_odds_lie_around_zero_and_what_counts_against_a_class_lowers_it():
    cues = checked_shortcuts({"fish": {"background": "desert"}})
    planted = Planted(cues, 1.0, independent=True, against={"fish": Cue((("background", "sea"),))})
    scenes = [SCENE, SCENE | {"background": "sea"}, SCENE | {"background": "grass"}]
    fish = wanted_logits(planted, scenes)[:, OBJECTS.index("fish")]
    assert np.allclose(fish, [AMPLITUDE / 2, -AMPLITUDE, -AMPLITUDE / 2])
    assert np.allclose(wanted_logits(planted, scenes)[:, 0], AMPLITUDE / 2)  # a boat in every scene


def test_cues_are_as_frequent_as_their_absence_and_independent_of_the_object():
    cues = checked_shortcuts({"tree": dx.all_of(colour="blue", background="desert")})
    scenes = drawn(Planted(cues))
    shown = np.array([cues["tree"].holds(scene) for scene in scenes])
    assert 0.4 < shown.mean() < 0.62
    for label in OBJECTS:
        own = np.array([scene["object"] == label for scene in scenes])
        assert abs(shown[own].mean() - shown.mean()) < 0.25, label
    parts = np.array([[scene["colour"] == "blue", scene["background"] == "desert"] for scene in scenes])
    for first, second in (parts.T, parts.T[::-1]):
        assert (first & ~second).mean() > 0.08
    for name in ("size", "place", "pattern", "frame", "mark"):
        assert len({scene[name] for scene in scenes}) > 1
