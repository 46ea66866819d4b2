"""A difference of two audits is one of the effects that their rows have: of showing, where words are disobeyed."""

from dataclasses import replace

import numpy as np
import pytest

from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.intervals import student_quantile

LEVELS = (4, 4)
GROUPS = {"object": ["a", "b", "c", "d"], "background": ["p", "q", "r", "s"]}
NAMES = [f"{group}:{value}" for group, values in GROUPS.items() for value in values]
PLACE = NAMES.index("background:p")


def audit(effect: float, seed: int, pool: str, obeyed: float, own: bool = False, pictures: int = 384) -> Audit:
    """Return an audit of one class, in whose pictures words of the background are obeyed in a share of them.

    Args:
        effect: of showing the first background.
        seed: of the noise of the answers.
        pool: whose pictures they are.
        obeyed: share; the others show a background by chance.
        own: whether the class is the first object.
        pictures: of the trial.
    """
    design, random = balanced_design(LEVELS, pictures, 0), np.random.default_rng([*pool.encode()])
    chance = random.random(pictures) > obeyed
    backgrounds = np.where(chance, random.integers(0, 4, pictures), design[:, 1])
    seen = np.concatenate([np.eye(4)[design[:, 0]], np.eye(4)[backgrounds]], 1)
    noise = 0.3 * np.random.default_rng(seed).standard_normal((pictures, 1))
    outcomes = {"design": design, "levels": np.array(LEVELS), "groups": np.array([2]), "seen": seen}
    outcomes |= {
        "values": effect * (backgrounds == 0)[:, None] + noise,
        "shown": np.where(np.arange(8) < 4, np.nan, seen),
    }
    settings = {"pictures": pictures, "pictures_used": pictures, "minimal_effect": 0.5, "level": 0.05, "seed": 0}
    settings |= {
        "targets": ["a"],
        "concepts": {"groups": GROUPS, "words": []},
        "eye": "perfect",
        "showing": ["background"],
    }
    settings |= {"pool": pool, "output": "softmax", "control": "fdr"}
    numbers = {"p": 1.0, "adjusted_p": 1.0, "finding": False, "role": "none", "obeyed": None, "pictures": pictures // 4}
    none = dict.fromkeys(("answered_with", "answered_without", "accuracy_with", "accuracy_without", "tipping_point"))
    rows = [
        AuditRow(
            "a",
            name,
            0.0,
            0.0,
            0.0,
            asked=0.0,
            declared_by="label" if own and name == NAMES[0] else None,
            **numbers,
            **none,
        )
        for name in NAMES
    ]
    return Audit("by hand", rows, [], {}, settings, outcomes=outcomes)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("pools", [("x", "x"), ("x", "y")])
def test_the_difference_is_that_of_showing(pools: tuple[str, str], own: bool) -> None:
    inside = []
    for seed in range(16):
        one, two = (f"{pool}{seed}" for pool in pools)
        ours, theirs = audit(3.0, 2 * seed, one, 0.5, own), audit(1.0, 2 * seed + 1, two, 0.5, own)
        difference = ours.diff(theirs)
        row = difference.rows[PLACE]
        assert row.effect == pytest.approx(2.0, abs=0.6) and row.finding and row.role == "more"
        inside.append(row.low <= 2.0 <= row.high)
        assert [abs(other.effect) < 0.6 for other in difference.rows[4:]].count(False) == 1
    assert np.mean(inside) >= 0.8
    assert difference.settings["asking_only"] == [] and difference.decide("spurious>0.5")[0].failed


def test_differences_of_equal_shares_are_exactly_zero_and_of_none_and_all_one() -> None:
    ours, theirs = (audit(3.0, seed, "x", 0.5) for seed in (0, 1))
    shares = ((1 - 7e-16, 4e-16, 0.3), (4e-16, 1.0, 0.1 + 0.2))
    for one, (share, usual, obeyed) in zip((ours, theirs), shares, strict=True):
        given = {"answered_with": share, "answered_without": usual, "obeyed": obeyed, "accuracy_with": share}
        one.rows = [replace(row, **given, accuracy_without=usual) for row in one.rows]
    for row in ours.diff(theirs).rows:
        assert (row.answered_with, row.answered_without, row.obeyed) == (1, -1, 0)
        assert (row.accuracy_with, row.accuracy_without) == (1, -1)


def test_pools_that_obey_their_words_differently_are_not_two_classifiers_that_differ() -> None:
    difference = audit(3.0, 0, "x", 0.9).diff(audit(3.0, 1, "y", 0.4))
    assert not any(row.finding for row in difference.rows) and abs(difference.rows[PLACE].effect) < 0.5


def test_own_eyes_that_are_not_known_to_be_the_same_are_two() -> None:
    ours, theirs = audit(3.0, 0, "x", 0.5), audit(0.0, 1, "x", 0.5)
    for first, second, same in (("a", "a", True), ("a", "b", False), (None, None, False)):
        for one, fingerprint in ((ours, first), (theirs, second)):
            one.settings |= {"eye": "the user's", "eye_fingerprint": fingerprint}
        assert ours.diff(theirs).settings["asking_only"] == ([] if same else ["background"]), (first, second)


def test_pictures_that_different_eyes_had_drawn_again_are_no_pairs() -> None:
    ours, theirs = audit(3.0, 0, "x", 1.0), audit(0.0, 1, "x", 1.0)
    common = 3 * np.random.default_rng(5).standard_normal((384, 1))  # of the pictures: it cancels in pairs only
    for one in (ours, theirs):
        one.settings["redraw"] = 2
        one.outcomes["values"] = one.outcomes["values"] + common
    paired = ours.diff(theirs).rows[PLACE]
    theirs.settings["eye"] = "another"
    apart = ours.diff(theirs).rows[PLACE]
    theirs.settings["redraw"] = ours.settings["redraw"] = 0
    drawn_once = ours.diff(theirs).rows[PLACE]
    assert max(one.high - one.low for one in (paired, drawn_once)) < (apart.high - apart.low) / 3


def test_what_no_audit_tells_is_asked() -> None:
    ours, theirs = audit(3.0, 0, "x", 0.5), audit(0.0, 1, "x", 0.5)
    theirs.settings["eye"] = "another"
    difference = ours.diff(theirs)
    assert difference.settings["asking_only"] == ["background"] and difference.rows[PLACE].effect < 2.4
    earlier = audit(0.0, 1, "y", 0.5)
    del earlier.outcomes["shown"]
    assert ours.diff(earlier).settings["asking_only"] == ["background"]
    same = audit(0.0, 1, "x", 0.5, pictures=192)  # of the same pictures one account is enough
    del same.outcomes["shown"]
    assert ours.diff(same).settings["asking_only"] == [] and ours.diff(same).rows[PLACE].effect == pytest.approx(
        3, abs=0.5
    )


def test_of_two_audits_the_stricter_settings_decide() -> None:
    one, two = audit(3.0, 0, "x", 1.0), audit(2.2, 1, "x", 1.0)
    assert one.diff(two).rows[PLACE].finding and one.diff(two).settings["control"] == "fdr"
    for name, value in (("minimal_effect", 3.2), ("level", 1e-9)):
        other = replace(two, settings={**two.settings, name: value})
        for found in (one.diff(other), other.diff(one)):
            assert found.settings[name] == value and not found.findings
    family = replace(two, settings={**two.settings, "control": "family"})
    for found, sign in ((one.diff(family), 1), (family.diff(one), -1)):
        assert found.settings["control"] == "family"
        assert found.rows[PLACE].finding and found.rows[PLACE].role == ("more" if sign > 0 else "less")
        assert found.rows[PLACE].adjusted_p == pytest.approx(16 * found.rows[PLACE].p)


@pytest.mark.parametrize("pools", [("x", "x"), ("x", "y")])
def test_the_interval_of_a_finding_of_showing_is_that_of_a_choice(pools: tuple[str, str]) -> None:
    one, two = (audit(effect, seed, pool, 0.5) for effect, seed, pool in zip((3.0, 1.0), (0, 1), pools, strict=True))
    row = one.diff(two).rows[PLACE]
    # It alone of eight is found, so that its interval misses with an eighth of the level.
    assert row.finding and sum(other.finding for other in one.diff(two).rows) == 1
    lone = replace(two, settings={**two.settings, "minimal_effect": 9.0})  # the same effect, which is not found
    plain = one.diff(lone).rows[PLACE]
    assert not plain.finding and plain.effect == row.effect
    wider = student_quantile(1 - 0.05 / 16, 300) / student_quantile(0.975, 300)
    for chosen, usual in (
        (row.effect - row.low, plain.effect - plain.low),
        (row.high - row.effect, plain.high - plain.effect),
    ):
        assert chosen / usual == pytest.approx(wider, rel=0.1)  # one of showing is a little wider than Student's


def test_classifiers_that_differ_by_rounding_alone_have_no_findings() -> None:
    one, two = (audit(3.0, 0, "x", 1.0) for _ in range(2))
    for each in (one, two):
        each.settings["minimal_effect"] = 0.0
    two.outcomes["values"] = two.outcomes["values"] * (1 + 2e-7)  # the last two bits of float32
    assert not one.diff(two).findings
    two.outcomes["values"] = two.outcomes["values"] * 1.001
    assert two.diff(one).rows[PLACE].finding
