"""Accuracy by label and concept, and the groups for re-training."""

import numpy as np
import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.photographs.slices import slices_of, training_groups

CONCEPTS = Concepts({"object": ["boat", "fish"], "background": ["sea", "desert"]})
LABELS = ["fish"] * 20 + ["boat"] * 20
SEEN = np.array([[1, i % 2] for i in range(20)] + [[0, 0] if i else [0, 1] for i in range(20)])


def test_the_worst_slice_comes_first() -> None:
    right = np.array([i % 2 == 1 for i in range(20)] + [True] * 20)
    found = slices_of(LABELS, right, SEEN, CONCEPTS)
    assert [(part.label, part.concept, part.pictures, part.accuracy) for part in found[:2]] == [
        ("fish", "background:sea", 10, 0.0),
        ("fish", "", 20, 0.5),
    ]
    assert found[0].low == 0 and found[0].high == pytest.approx(0.2775, abs=1e-3)
    assert {part.concept for part in found if part.label == "boat"} == {"", "background:sea"}  # one desert is too few


def test_groups_cross_the_label_with_its_shortcut() -> None:
    groups = training_groups(LABELS, SEEN, CONCEPTS, {"fish": "background:desert"})
    assert set(groups[:20]) == {"fish, background:desert", "fish, not background:desert"}
    assert groups[20] == "boat, background:desert" and set(groups[21:]) == {"boat"}
    assert training_groups(LABELS, SEEN, CONCEPTS, {}) == LABELS
