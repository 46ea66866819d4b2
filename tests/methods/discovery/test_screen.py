"""Many free words: a few pictures each choose those that a trial asks for."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery import screen
from diffexplain_fast.methods.discovery.screen import EACH, strongest
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import bag_design
from tests.auditing import quick_audit

WORDS, PLANTED = 220, [3, 50, 111, 180, 219]


def test_planted_words_are_among_the_chosen_and_the_others_are_few() -> None:
    rng, found = np.random.default_rng(0), []
    for seed in range(2):
        pictures = EACH * (WORDS + 4) // 4
        bags = bag_design(WORDS + 4, 4, pictures, seed)[:, :WORDS]
        asked = Asked(bags.astype(np.int64), (2,) * WORDS, 0)
        values = rng.standard_normal((pictures, 8))
        values[:, 2] += 2.5 * bags[:, PLANTED].sum(1)
        always = np.arange(WORDS) == 7
        places = strongest(asked, values, 64, always)
        assert 64 <= len(places) <= 65 and 7 in places and places == sorted(places)
        found.append(len(set(PLANTED) & set(places)))
    assert np.mean(found) >= 4.5


def test_a_target_that_is_always_the_same_chooses_no_word() -> None:
    bags = bag_design(8, 2, 96, 0)
    asked = Asked(bags.astype(np.int64), (2,) * 8, 0)
    values = np.random.default_rng(0).standard_normal((96, 1)) + 3.0 * bags[:, [6]]
    constant = np.full((96, 1), 1e6 + 0.1) * (1 + 1e-15 * bags[:, [2]])  # rounding that goes with a word
    assert strongest(asked, np.concatenate([values, constant], 1), 1, np.zeros(8, dtype=bool)) == [6]


def see(pixels: Tensor) -> np.ndarray:
    """See every other word in every picture."""
    return np.tile([0.0, 1.0] * 3, (len(pixels), 1))


def test_a_screening_leaves_groups_and_synonyms_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "MOST", 3)
    monkeypatch.setattr(screen, "KEPT", 2)
    monkeypatch.setattr(screen, "EACH", 8)
    synonyms = {"background:desert": ["tree"]}
    given = Concepts({"background": ["desert", "snow"]}, ["boat", "fish", "red", "blue"], synonyms=synonyms)
    asked = quick_audit(tmp_path, concepts=given, own_pictures=0).settings["concepts"]
    assert len(asked["words"]) == 2 and asked["synonyms"] == synonyms


def test_an_audit_screens_and_asks_for_the_rest_on_fresh_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["boat", "fish", "tree", "house", "red", "blue"]
    plain = quick_audit(tmp_path / "plain", concepts=words)
    assert plain.settings["screened"] == {} and len({row.concept for row in plain.rows}) == 6
    monkeypatch.setattr(screen, "MOST", 5)
    monkeypatch.setattr(screen, "KEPT", 3)
    monkeypatch.setattr(screen, "EACH", 8)
    audit = quick_audit(tmp_path / "pool", concepts=words, eye=see)
    kept = audit.settings["screened"]["kept"]
    assert len(kept) == 3 and audit.settings["screened"]["words"] == 6
    assert {row.concept for row in audit.rows} == {f"word:{word}" for word in kept}
    # The eye looks for all six words, and sees what it says of those that were kept.
    seen = audit.outcomes["seen"].mean(0).tolist()
    assert seen == [float(words.index(word) % 2) for word in kept]
    stages = {path.name.partition("-")[0] for path in (tmp_path / "pool").glob("*.png")}
    assert {"screen", "context"} <= stages
