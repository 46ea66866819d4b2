"""Pairs: which ones the pool suggests, how their scenes are made, and what a verdict makes of them."""

from pathlib import Path

import numpy as np
import pytest

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.methods.discovery.pairs import (
    SCENES,
    Candidate,
    _measured,
    candidates,
    interactions_of,
    named_pairs,
)
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.methods.discovery.scenes import pair_scenes
from diffexplain_fast.methods.discovery.verdicts import verdicts_of
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.audit_rows import Interaction
from tests.auditing import GROUPS, SPOKEN, made_up
from tests.tiny import LABELS, tiny_sd

BOTH = ("fish", "background:desert", "colour:blue", 6.0)
NAMES = Concepts(GROUPS).names


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Return a pool of the tiny pipeline."""
    pipeline = load_pipeline(tiny_sd())
    return Pool(
        tmp_path,
        Drawing(pipeline, DifferentiableSampler.from_pipe(pipeline, num_inference_steps=1, guidance_scale=1.0), 0),
    )


def test_a_conjunction_is_suggested_first() -> None:
    found = candidates(made_up({}, both=BOTH))
    assert (LABELS[found[0].target], NAMES[found[0].first], NAMES[found[0].second]) == BOTH[:3]
    assert found[0].estimate == pytest.approx(4.5, abs=0.8)  # centred over four classes
    assert all(LABELS[one.target] == "fish" for one in found)


def test_nothing_is_suggested_where_effects_add() -> None:
    assert candidates(made_up({("fish", "background:desert"): 4.0, ("fish", "colour:blue"): 3.0})) == []


def test_one_of_two_is_suggested_where_each_is_enough() -> None:
    trial = made_up({("fish", "background:desert"): 6.0, ("fish", "colour:blue"): 6.0}, both=(*BOTH[:3], -6.0))
    found = candidates(trial)
    assert (LABELS[found[0].target], NAMES[found[0].first], NAMES[found[0].second]) == BOTH[:3]
    assert found[0].estimate < -3


def test_scenes_differ_in_the_pair_only_and_avoid_the_own_object() -> None:
    pair, own = (("background", "desert"), ("colour", "blue")), ("object", "fish")
    neither, first, second, both = pair_scenes(GROUPS, pair, own, SCENES, np.random.default_rng(0))
    assert len(neither) == SCENES
    for scenes in zip(neither, first, second, both, strict=True):
        assert len({scene["object"] for scene in scenes}) == 1 and scenes[0]["object"] != "fish"
        assert scenes[0]["background"] != "desert" and scenes[0]["colour"] != "blue"
        assert scenes[1] == {**scenes[0], "background": "desert"} and scenes[2] == {**scenes[0], "colour": "blue"}
        assert scenes[3] == {**scenes[0], "background": "desert", "colour": "blue"}


def test_scenes_of_neither_leave_out_a_group_that_has_no_other_value() -> None:
    groups = {"object": ["fish", "boat"], "weather": ["sun"], "background": ["desert", "sea"]}
    pair = (("object", "boat"), ("background", "sea"))
    variants = pair_scenes(groups, pair, ("object", "fish"), 5, np.random.default_rng(0))
    neither, first, second, both = (scenes[0] for scenes in variants)
    assert neither == {"weather": "sun", "background": "desert"}
    assert first == {"object": "boat", **neither} and [*first] == [*groups]
    assert second == {"weather": "sun", "background": "sea"} and both == {"object": "boat", **second}
    # A group of the own object only, and a concept that is alone in its group, are in no scene of neither.
    groups = {"object": ["fish"], "weather": ["sun"], "background": ["desert", "sea"]}
    pair = (("weather", "sun"), ("background", "sea"))
    variants = pair_scenes(groups, pair, ("object", "fish"), 5, np.random.default_rng(0))
    neither, first, second, both = (scenes[0] for scenes in variants)
    assert neither == {"background": "desert"} and first == {"weather": "sun", "background": "desert"}
    assert second == {"background": "sea"} and both == {"weather": "sun", "background": "sea"}


def test_a_pair_of_which_no_caption_asks_for_neither_is_not_measured(pool: Pool) -> None:
    two = Concepts({"object": ["fish", "boat"], "background": ["desert", "sea"]})
    trial = made_up({}, concepts=two, both=("fish", "object:boat", "background:sea", 8.0))
    pairs, left = interactions_of(trial, pool, SPOKEN, 0, lambda done, total: None)
    assert all(pair.target not in ("fish", "boat") for pair in pairs)
    named = {"target": "fish", "concept_a": "object:boat", "concept_b": "background:sea"}
    assert named in named_pairs(trial, left)


def test_the_four_variants_of_a_scene_are_drawn_from_one_latent(pool: Pool) -> None:
    trial = made_up({})
    pair = Candidate(1, NAMES.index("background:desert"), NAMES.index("colour:blue"), 5.0)
    values = _measured(trial, pool, SPOKEN, pair, 0)
    assert values.shape == (SCENES, 4) and pool.drawn == 4 * SCENES
    # The tiny pipeline hardly reads its words: what differs between scenes is the latent, and variants share it.
    assert values.std(0).mean() > 3 * values.std(1).mean()
    assert np.array_equal(_measured(trial, pool, SPOKEN, pair, 0), values) and pool.drawn == 4 * SCENES


def test_a_pair_that_the_pictures_do_not_show_has_no_kind(pool: Pool) -> None:
    trial = made_up({}, both=BOTH)
    (found, *_), left = interactions_of(trial, pool, SPOKEN, 0, lambda done, total: None)
    assert not left
    assert (found.target, found.concept_a, found.concept_b) == BOTH[:3]
    assert found.kind == "add" and found.adjusted_p > 0.05 and abs(found.effect) < 1


def test_verdicts_follow_the_kind_of_a_pair() -> None:
    trial = made_up({}, both=BOTH)
    rows = rows_of(trial)
    pair = Interaction("fish", "background:desert", "colour:blue", 4.5, 4.0, 5.0, 0.001, "and")
    found = verdicts_of(trial, rows, [pair])
    assert found["fish"].kind == "conjunction"
    assert found["fish"].concepts[:2] == ["background:desert", "colour:blue"]
    assert "desert and blue together raise fish by +4.5 [4.0, 5.0]" in found["fish"].sentence
    either = Interaction("fish", "background:desert", "colour:blue", -4.5, -5.0, -4.0, 0.001, "or")
    assert verdicts_of(trial, rows, [either])["fish"].kind == "either-or"
    added = Interaction("fish", "background:desert", "colour:blue", 0.1, -0.5, 0.7, 0.9, "add")
    assert verdicts_of(trial, rows, [added])["fish"].kind not in ("conjunction", "either-or")
