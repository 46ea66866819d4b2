"""A user's own distribution of concepts: how shares are completed, refused, and what they do to an audit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.weights import picture_weights, shares_of
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import estimate
from diffexplain_fast.stats.design import balanced_design
from tests.auditing import GROUPS, quick_audit

CONCEPTS = Concepts(GROUPS)
LEVELS = tuple(len(values) for values in GROUPS.values())
REFUSED: dict[str, tuple[Any, str]] = {
    "no dict": (["desert"], "weights: wanted a dict from groups"),
    "a group": ({"backgrond": {"desert": 0.5}}, "weights: wanted one of 3 known names, nearest: background"),
    "a value": ({"background": {"dessert": 0.5}}, "weights, background: wanted one of 4 known names, nearest: desert"),
    "nothing": ({"background": {"desert": 0.0}}, "weights, background, desert: wanted a share above 0"),
    "text": ({"background": {"desert": "half"}}, "weights, background, desert: wanted a number"),
    "no rest": ({"background": {"desert": 0.5, "snow": 0.5}}, "wanted shares below 1 together, because sea, grass"),
    "no sum": ({"colour": {"red": 0.5, "blue": 0.1, "green": 0.1}}, "weights, colour: wanted shares that add up to 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_shares_are_refused(name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        shares_of(given, CONCEPTS)


def test_values_that_are_not_named_share_the_rest() -> None:
    shares = shares_of({"background": {"desert": 0.7}}, CONCEPTS)
    assert shares == {"background": pytest.approx({"desert": 0.7, "snow": 0.1, "sea": 0.1, "grass": 0.1})}
    assert shares_of(None, CONCEPTS) is None
    design = np.array([[0, 0, 0], [3, 3, 2], [1, -1, 0]])
    assert picture_weights(shares, CONCEPTS, design) == pytest.approx([2.8, 0.4, 1.0])
    assert picture_weights(None, CONCEPTS, design) is None


@pytest.mark.parametrize("own", [None, 1])
def test_an_effect_is_that_in_the_users_pictures(own: int | None) -> None:
    # Blue counts only in the desert: a quarter of the pictures of the trial, .7 of the user's.
    design = balanced_design(LEVELS, 768, 0, 0.0)
    noise = 0.1 * np.random.default_rng(0).standard_normal((768, 1))
    outcomes = 4.0 * ((design[:, 1] == 0) & (design[:, 2] == 1))[:, None] + noise
    weights = picture_weights(shares_of({"background": {"desert": 0.7}}, CONCEPTS), CONCEPTS, design)
    blue = CONCEPTS.names.index("colour:blue")
    plain, moved = (
        estimate(Asked(design, LEVELS, 3, given), outcomes, [own], 768).effects for given in (None, weights)
    )
    assert plain.estimate[blue, 0] == pytest.approx(1.0, abs=0.15)
    assert moved.estimate[blue, 0] == pytest.approx(2.8, abs=0.25)
    assert abs(moved.estimate[blue, 0] - 2.8) < 3 * moved.error[blue, 0]
    assert moved.means[blue, 0] == pytest.approx(2.8, abs=0.3)


def test_an_audit_says_how_many_equal_pictures_its_weighted_ones_are_worth(tmp_path: Path) -> None:
    shares = {"background": {"desert": 0.7}}
    audit = quick_audit(tmp_path / "pool", pictures=96, weights=shares)
    weights = audit.outcomes["weights"]
    assert audit.settings["weights"] == {"background": {"desert": 0.7, "snow": pytest.approx(0.3)}}
    assert audit.settings["effective_pictures"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    size = f"worth {audit.settings['effective_pictures']:.0f} pictures of equal weight"
    assert size in repr(audit) and size in audit.report(tmp_path / "audit.html").read_text()
    loaded = Audit.load(audit.save(tmp_path / "audit"))
    assert all(row.effect == pytest.approx(0, abs=1e-9) for row in audit.diff(loaded).rows)
    assert len(audit.units("layer2", top=2, target="fish")) == 2
    assert [row.name for row in audit.directions("layer2", 1)] == ["PCA 1"]
    plain = quick_audit(tmp_path / "pool", pictures=96)
    assert plain.settings["effective_pictures"] is None and plain.settings["pictures_drawn"] == 0
    with pytest.raises(ValueError, match="other: wanted an audit with the same weights"):
        audit.diff(plain)


def test_weights_that_leave_too_few_pictures_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights: wanted an effective number of at least 50 pictures, got [34]\d"):
        quick_audit(tmp_path / "pool", pictures=64, weights={"background": {"desert": 0.95}})
    assert not list(tmp_path.glob("pool/*.png"))
