"""Accuracy by label and concept, and the groups for re-training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.readout import Readout, readout_of
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.methods.photographs.given import given_pictures
from diffexplain_fast.methods.photographs.labels import read_labels, shortcuts_of
from diffexplain_fast.methods.photographs.photographs import photographs_of
from diffexplain_fast.methods.photographs.slices import slices_of, training_groups
from diffexplain_fast.methods.photographs.tools import Tools
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.decision import decide
from diffexplain_fast.results.photographs import Photographs
from tests.auditing import made_up

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


def test_a_label_with_underscores_has_its_own_value_and_no_slice_of_it() -> None:
    concepts = Concepts({"object": ["boat", "red fish"], "background": ["sea", "desert"]})
    labels = ["red_fish"] * 20 + ["boat, ship"] * 20
    seen = given_pictures(torch.zeros(40, 3, 4, 4), labels).seen(concepts, lambda pixels: torch.zeros(len(pixels), 4))
    assert seen[:, 0].tolist() == [1] * 20 + [0] * 20
    found = slices_of(labels, np.ones(40, dtype=bool), SEEN, concepts)
    assert not any(part.concept.startswith("object:") for part in found)


def test_labels_may_be_an_array() -> None:
    pixels = torch.zeros(2, 3, 4, 4)
    for labels in (np.array(["fish", "boat"]), np.array(["fish", "boat"], dtype=object), ("fish", "boat")):
        assert given_pictures(pixels, labels).labels == ("fish", "boat")
    for labels in (np.array([["fish", "boat"]]), np.array(["fish"])[0], np.array([0, 1]), b"ab"):
        with pytest.raises(TypeError, match="labels: wanted a label for every picture"):
            given_pictures(pixels, labels)


def test_groups_cross_the_label_with_its_shortcut() -> None:
    groups = training_groups(LABELS, SEEN, CONCEPTS, {"fish": "background:desert"})
    assert set(groups[:20]) == {"fish, background:desert", "fish, not background:desert"}
    assert groups[20] == "boat, background:desert" and set(groups[21:]) == {"boat"}
    assert training_groups(LABELS, SEEN, CONCEPTS, {}) == LABELS


PIXELS = (torch.arange(40.0) + 0.5).view(40, 1, 1, 1).expand(40, 3, 4, 4) / 40


def of_three(output: str = "softmax", targets: object = "all") -> Readout:
    """Return what reads a classifier that answers dark pictures with the first of two classes named fish."""

    def answers(pixels: torch.Tensor) -> torch.Tensor:
        light = pixels.mean((1, 2, 3))
        return torch.stack([0.5 - light, light - 0.5, light - 9], 1)

    classifier = Classifier(answers, labels=["fish", "boat", "fish"], output=output)
    return readout_of(classifier, targets, PIXELS[:1])


def told(readout: Readout, labels: list[str], rows: list | None = None) -> Photographs:
    """Return what forty pictures say, of which the first half is dark."""
    settings = {"seed": 0, "level": 0.05, "minimal_effect": 0.5}
    audit = Audit("three", rows or [], [], {}, settings)
    tools = Tools(None, None, lambda concepts, group: [])  # type: ignore[arg-type, misc]
    return photographs_of(given_pictures(PIXELS, labels), CONCEPTS, readout, tools, audit, lambda done, all_: None)


@pytest.mark.parametrize(("label", "noted"), [("fish", True), ("fish (0)", False), ("fish (2)", False)])
def test_labels_of_classes_that_share_a_name_are_each_class_or_any(label: str, noted: bool) -> None:
    found = told(of_three(), [label] * 20 + ["boat"] * 20)
    accuracy = {part.label: part.accuracy for part in found.slices}
    assert accuracy == {label: 0.0 if label == "fish (2)" else 1.0, "boat": 1.0}
    note = 'fish is the name of 2 classes, and an answer with any of them counts as right: labels such as "fish (0)"'
    assert any(one.startswith(note) for one in found.notes) == noted
    some = told(of_three(targets=[0, 1]), [label] * 20 + ["boat"] * 20)
    assert ("fish (0)" in {part.label for part in some.slices}) == (label == "fish (0)")
    if label != "fish (0)":
        assert any(f"20 pictures have a label that is no target of the audit ({label})" in one for one in some.notes)


def test_shared_names_are_values_and_have_shortcuts_of_their_own() -> None:
    readout, look = of_three(), lambda pixels: np.zeros((len(pixels), 4))
    labels = read_labels(["fish (0)"] * 20 + ["boat"] * 20, readout)
    assert labels.names == ("fish",) * 20 + ("boat",) * 20
    seen = given_pictures(PIXELS, list(labels.names)).seen(CONCEPTS, look)  # type: ignore[arg-type]
    assert seen[:, 0].tolist() == [1] * 20 + [0] * 20
    found = slices_of(labels.given, np.ones(40, dtype=bool), SEEN, CONCEPTS, labels.names)
    assert not any(part.concept.startswith("object:") for part in found)
    row = rows_of(made_up({("fish", "background:desert"): 5.0}))[0]
    weak = replace(row, target="fish (0)", concept="background:sea", effect=1.0, finding=True, role="spurious")
    strong = replace(weak, target="fish (2)", concept="background:desert", effect=2.0)
    audit = Audit("three", [weak, strong], [], {}, {})
    every = shortcuts_of(audit, readout, read_labels(["fish", "fish (0)"], readout))
    assert every == {"fish (0)": "background:sea", "fish (2)": "background:desert", "fish": "background:desert"}


def test_numbers_have_no_accuracy_and_no_condition_on_it_is_passed() -> None:
    found = told(of_three("regression", targets=[0, 1]), ["fish (0)"] * 20 + ["boat"] * 20)
    assert found.slices == [] and found.worst_group is None and len(found.groups) == 40
    assert "The classifier answers with numbers, so that its answers have no accuracy" in found.notes
    numbers = [replace(row, accuracy_with=None, accuracy_without=None) for row in rows_of(made_up({}))]
    for text, wanted in (
        ("worst_group<0.5", "own pictures with labels"),
        ("unexplained>0", "an eye, groups of concepts, and a class with which 8"),
    ):
        with pytest.raises(ValueError, match=f"condition: wanted {wanted}"):
            decide(text, numbers, found)
