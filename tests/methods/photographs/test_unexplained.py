"""Answers that concepts explain, and answers to something without a name."""

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.methods.photographs.unexplained import unexplained

LEVELS = [8, 5, 6]
NAMES = ("background", "either", "both", "hidden", "half hidden", "never")


def answers(rng: np.random.Generator, count: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Return true values [N, groups] and answers [N, classes]: of one value, of either of two, of two, and hidden."""
    true = np.stack([rng.integers(0, k, count) for k in LEVELS], 1)
    background, companion = true[:, 1] == 0, true[:, 2] == 0
    hidden = rng.random(count) < 0.2
    half = np.where(rng.random(count) < 0.5, background, hidden)
    both = (true[:, 1] <= 1) & (true[:, 2] <= 2)
    columns = [background, background | companion, both, hidden, half, np.zeros(count, bool)]
    hits = np.stack(columns, 1)
    few = rng.random(hits.shape) < 0.01  # chance changes some answers
    return true, hits ^ (few & (np.arange(6) < 3))


def test_hidden_cues_are_told_from_concepts() -> None:
    found = {name: [] for name in NAMES}  # type: dict[str, list[bool]]
    for seed in range(4):
        true, hits = answers(np.random.default_rng(seed))
        for row in unexplained(true, LEVELS, hits, None, NAMES, seed):
            found[row.target].append(row.explained)
    assert not any(found["hidden"]) and sum(found["half hidden"]) <= 1
    assert all(sum(found[name]) >= 3 for name in ("background", "either", "both")) and not found["never"]


def test_the_errors_of_an_eye_are_not_taken_for_a_hidden_cue() -> None:
    rng = np.random.default_rng(0)
    matrix = 0.6 * np.eye(5) + 0.08
    errors = [Errors(np.arange(8), np.eye(8)), Errors(np.arange(8, 13), matrix), Errors(np.arange(13, 19), np.eye(6))]
    believed, known = [], []
    for seed in range(4):
        true, hits = answers(rng)
        seen = true.copy()
        seen[:, 1] = [rng.choice(5, p=matrix[:, value]) for value in true[:, 1]]
        believed.append(unexplained(seen, LEVELS, hits, None, NAMES, seed)[0].explained)
        known.append(unexplained(seen, LEVELS, hits, errors, NAMES, seed)[0].explained)
    assert all(known) and not all(believed)
