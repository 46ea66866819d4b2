"""Labels, layers and fingerprints of classifiers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.preprocess import Preprocess
from tests.tiny import LABELS, TinyClassifier, seeded, tiny_classifier


@pytest.mark.parametrize("label", ["fish", 1, np.int32(1), torch.tensor(1)], ids=repr)
def test_a_class_is_found_by_label_or_index(label: Any) -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    assert classifier.label_index(label) == 1 and type(classifier.label_index(label)) is int
    assert classifier.label_name(1) == "fish"


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        ("bout", UnknownNameError, "label: wanted one of 4 known names, nearest: boat, .* got 'bout'"),
        ("", UnknownNameError, "label: wanted one of 4 known names"),
        ("Fish", UnknownNameError, "nearest: fish"),
        (4, ValueError, "label: wanted an index from 0 to 3, got 4"),
        (-1, ValueError, "label: wanted an index from 0 to 3, got -1"),
        (1.0, TypeError, "label: wanted a label or a class index, got float"),
        (True, TypeError, "got bool"),
        (None, TypeError, "got NoneType"),
        (torch.tensor([1, 2]), TypeError, "got Tensor"),
    ],
)
def test_a_bad_label_is_named(label: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(tiny_classifier(), labels=LABELS).label_index(label)


def test_an_unknown_label_names_five() -> None:
    labels = [f"boat {i}" for i in range(30)]
    with pytest.raises(UnknownNameError) as caught:
        Classifier(tiny_classifier(30), labels=labels).label_index("boot 3")
    assert str(caught.value).count("boat") == 5


def test_labels_that_repeat_are_distinguished_by_index() -> None:
    classifier = Classifier(tiny_classifier(), labels=("crane", "boat", "crane", "fish"))
    assert classifier.label_index("boat") == 1 and classifier.label_index(2) == 2
    message = r"""label: wanted an index or "crane \(0\)", because classes \[0, 2\] share this label, got 'crane'"""
    with pytest.raises(ValueError, match=message):
        classifier.label_index("crane")
    assert [classifier.label_index(f"crane ({index})") for index in (0, 2)] == [0, 2]
    for unknown in ("crane (1)", "crane (3)", "crane ()"):
        with pytest.raises(UnknownNameError) as caught:
            classifier.label_index(unknown)
        assert "crane (0), crane (2)" in str(caught.value) or "crane (2), crane (0)" in str(caught.value)
    odd = Classifier(tiny_classifier(), labels=("a", "a", "a (0)", "b"))
    assert odd.label_index("a (0)") == 2, "a label wins"
    with pytest.raises(ValueError, match=r'wanted an index or "a \(1\)", because classes'):
        odd.label_index("a")


def test_without_labels_a_class_is_named_by_index() -> None:
    classifier = Classifier(tiny_classifier())
    assert classifier.label_index(3) == 3 and classifier.label_name(3) == "3"
    with pytest.raises(ValueError, match="a class index, because TinyClassifier has no labels, got 'boat'"):
        classifier.label_index("boat")
    with pytest.raises(ValueError, match="an index from 0, got -1"):
        classifier.label_index(-1)


def test_layers_are_found_by_name_or_module() -> None:
    model = tiny_classifier()
    classifier = Classifier(model)
    assert classifier.resolve_layer("layer1.0") == classifier.resolve_layer(model.layer1[0]) == "layer1.0"
    assert (classifier.layer_units("layer1.0"), classifier.layer_units("layer1.1")) == (8, 8)
    assert (classifier.layer_units(model.head), classifier.layer_units("layer1")) == (4, None)


def test_a_layer_of_two_names_answers_to_both() -> None:
    model = tiny_classifier()
    model.alias = model.layer2
    assert Classifier(model).resolve_layer("alias") == "alias"
    assert Classifier(model).resolve_layer("alias.0") == "alias.0"
    assert Classifier(model).resolve_layer(model.alias) == "layer2"


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("layr2", UnknownNameError, r"layer: wanted one of 9 known names, nearest: layer2, .* got 'layr2'"),
        ("", UnknownNameError, "layer: wanted"),
        ("layer1.0.weight", UnknownNameError, r"nearest: layer1\.0"),
        (3, TypeError, "layer: wanted a dotted name or a module, got int"),
        (nn.Conv2d(3, 3, 1), ValueError, "a module inside TinyClassifier, got a Conv2d that is not part of it"),
    ],
)
def test_a_bad_layer_is_named(layer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(tiny_classifier()).resolve_layer(layer)


@pytest.mark.parametrize("layers", ["layer1", None])
def test_a_single_layer_in_place_of_a_list_is_refused(layers: Any) -> None:
    with pytest.raises(TypeError, match="layers: wanted a list of dotted names or modules"):
        Classifier(tiny_classifier()).respond(torch.rand(1, 3, 8, 8), layers)


def test_a_fingerprint_follows_the_weights_and_the_preprocessing() -> None:
    same = {Classifier(tiny_classifier(), name=name, labels=LABELS).fingerprint() for name in ("a", "b")}
    assert len(same) == 1 and len(same.pop()) == 64
    moved = tiny_classifier()
    with torch.no_grad():
        moved.head.bias[0] += 1
    statistics = tiny_classifier()
    statistics.layer1[1].running_mean += 1
    different = [
        Classifier(tiny_classifier()),
        Classifier(moved),
        Classifier(statistics),
        Classifier(tiny_classifier().double()),
        Classifier(seeded(lambda: TinyClassifier(4), seed=8)),
        Classifier(tiny_classifier(), preprocess=Preprocess(size=8)),
        Classifier(tiny_classifier(), preprocess=Preprocess(size=9)),
        Classifier(tiny_classifier(), preprocess=nn.BatchNorm2d(3)),
    ]
    assert len({classifier.fingerprint() for classifier in different}) == len(different)


def test_a_fingerprint_is_the_same_after_use() -> None:
    classifier = Classifier(tiny_classifier().train())
    before = classifier.fingerprint()
    classifier(torch.rand(2, 3, 8, 8))
    assert classifier.fingerprint() == before
