"""Measured truth in the terms of an audit: against the median over what was asked for."""

import numpy as np
import pytest

from diffexplain_fast.evidence.known_truth import audit_truth

LEVELS = {"boat": 0.0, "fish": 0.2, "tree": -1.0, "house": -1.2, "nothing": 0.1}
"""Mean logit of a class under every object, in the truth."""


def truth(levels: dict[str, float]) -> dict:
    """Return a truth of one class with levels."""
    middle = float(np.median(list(levels.values())))
    rows = [{"attribute": f"object:{name}", "effect": level - middle, "levels": {}} for name, level in levels.items()]
    return {"boat": {"attributes": rows}}


def test_the_median_is_over_the_values_that_were_asked_for() -> None:
    whole = audit_truth(truth(LEVELS))
    assert whole["boat", "object:fish"] == pytest.approx(0.2)  # the median of five values is the boat's 0
    asked = [f"object:{name}" for name in ("boat", "fish", "tree", "house")]
    found = audit_truth(truth(LEVELS), asked)
    assert list(found) == [("boat", name) for name in asked]
    assert found["boat", "object:fish"] == pytest.approx(0.7)  # the median of four lies between 0 and -1
    assert found["boat", "object:house"] == pytest.approx(-0.7)


def test_a_truth_without_levels_is_seen_the_same_way() -> None:
    count = len(LEVELS)
    raw = {name: level - (sum(LEVELS.values()) - level) / (count - 1) for name, level in LEVELS.items()}
    other = {"attributes": [{"attribute": f"object:{name}", "effect": 0.0} for name in LEVELS]}
    own = {"attributes": [{"attribute": f"object:{name}", "effect": effect} for name, effect in raw.items()]}
    asked = [f"object:{name}" for name in ("boat", "fish", "tree", "house")]
    found = audit_truth({"boat": own, "fish": other}, asked)
    # Two classes share the mean logit, so that half of the effect is left.
    assert found["boat", "object:fish"] == pytest.approx(0.35) and found["fish", "object:fish"] == pytest.approx(-0.35)


def test_a_concept_that_the_truth_does_not_know_has_none() -> None:
    found = audit_truth(truth(LEVELS), ["object:boat", "object:fish", "object:zebra", "mood:calm"])
    assert set(found) == {("boat", "object:boat"), ("boat", "object:fish")}


def test_an_effect_can_be_that_in_pictures_of_which_few_show_the_own_object() -> None:
    levels = {"sea": (5.0, 1.0), "snow": (0.0, 0.0), "desert": (-1.0, 0.0)}
    rows = [
        {
            "attribute": f"background:{name}",
            "effect": (one + two) / 2,
            "levels": {"with": {"logit": one}, "without": {"logit": two}},
        }
        for name, (one, two) in levels.items()
    ]
    rows.append({"attribute": "object:boat", "effect": 2.0, "levels": {"with": {"logit": 9.0}}})
    whole = {"boat": {"attributes": rows}, "fish": {"attributes": rows}}
    found = audit_truth(whole, own_shares={"boat": 0.25})
    assert found["boat", "background:sea"] == pytest.approx(2.0)  # a quarter of 5 and three of 1
    assert found["boat", "background:desert"] == pytest.approx(-0.25)
    assert found["boat", "object:boat"] == 2.0 and found["fish", "background:sea"] == 3.0
    asked = audit_truth(whole, ["background:sea", "background:desert"], {"boat": 0.0})
    assert asked["boat", "background:sea"] == pytest.approx(0.5)  # against the median of the two
