"""Many free words: a few pictures each choose those that a trial asks for."""

from pathlib import Path

import numpy as np
import pytest

from diffexplain_fast.methods.discovery import screen
from diffexplain_fast.methods.discovery.screen import EACH, strongest
from diffexplain_fast.stats.cells import Asked
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


def test_an_audit_screens_and_asks_for_the_rest_on_fresh_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["boat", "fish", "tree", "house", "red", "blue"]
    plain = quick_audit(tmp_path / "plain", concepts=words)
    assert plain.settings["screened"] == {} and len({row.concept for row in plain.rows}) == 6
    monkeypatch.setattr(screen, "MOST", 5)
    monkeypatch.setattr(screen, "KEPT", 3)
    monkeypatch.setattr(screen, "EACH", 8)
    audit = quick_audit(tmp_path / "pool", concepts=words)
    kept = audit.settings["screened"]["kept"]
    assert len(kept) == 3 and audit.settings["screened"]["words"] == 6
    assert {row.concept for row in audit.rows} == {f"word:{word}" for word in kept}
    stages = {path.name.partition("-")[0] for path in (tmp_path / "pool").glob("*.png")}
    assert {"screen", "context"} <= stages
