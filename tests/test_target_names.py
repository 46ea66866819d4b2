"""Ways to name a target, and targets that must be refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import (
    ClassLogit,
    ClassProbability,
    Disagreement,
    Neuron,
    Response,
    Target,
    as_target,
    parse_target,
    told_apart,
)
from tests.tiny import LABELS, tiny_classifier


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(tiny_classifier(), labels=LABELS)


def scores(target: Target, classifier: Classifier, images: Tensor) -> Tensor:
    bound = target.bind(classifier)
    return bound(classifier.respond(images, bound.layers))


def pixels() -> Tensor:
    return torch.full((2, 3, 8, 8), 0.5)


@pytest.mark.parametrize(
    "labels",
    [
        ["", "0", "x"],
        ["0", "", "x"],
        ["", "", "0"],
        ["fish", "fish", "fish (0)"],
        ["a (1)", "a", "a"],
        ["1", "0", "0"],
        ["boat", "logit:boat", "logit:boat"],
        ["logit:boat (1)", "logit:boat", "logit:boat"],
        ["boat (2)", "logit:boat", "logit:boat"],
        ["neuron:x:3", "neuron:x:3", "x"],
        ["x:3", "x:3", "x"],
        ["a - b", "a - b", "a"],
        ["a + b", "a", "a + b"],
        ["2*a", "2*a", "a"],
    ],
    ids=str,
)
def test_every_class_has_a_text_of_its_own_by_which_it_is_found(labels: list[str]) -> None:
    classifier = Classifier(tiny_classifier(3), labels=labels, output="softmax")
    other = Classifier(tiny_classifier(3), labels=labels, output="softmax", name="other")
    kinds = (ClassLogit, ClassProbability, lambda index: Disagreement(other, index))
    for kind in kinds:
        assert len({kind(index).bind(classifier).describe() for index in range(3)}) == 3
    names = [ClassLogit(index).bind(classifier).name for index in range(3)]
    assert names == told_apart(labels) and [classifier.label_index(str(name)) for name in names] == [0, 1, 2]
    for index, (label, name) in enumerate(zip(labels, told_apart(labels), strict=True)):
        assert ClassLogit(index).bind(classifier).label == index
        assert as_target(name).bind(classifier).describe() == ClassProbability(index).bind(classifier).describe()
        assert as_target(parse_target(name, classifier.labels)).bind(classifier).label == index  # on the command line
        if labels.count(label) == 1:
            assert ClassLogit(label).bind(classifier).describe() == f"ClassLogit({label})"
            assert ClassLogit(label).describe() == f"ClassLogit({label})"


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (3, ClassProbability(3)),
        (np.int64(3), ClassProbability(3)),
        (torch.tensor(3), ClassProbability(3)),
        ("boat", ClassProbability("boat")),
        ("layer4.1:17", Neuron("layer4.1", 17)),
        ("ratio 3:x", ClassProbability("ratio 3:x")),
        (":3", ClassProbability(":3")),
        (ClassLogit(1), ClassLogit(1)),
    ],
    ids=str,
)
def test_a_target_is_named_by_index_label_neuron_or_object(x: Any, expected: Target) -> None:
    assert as_target(x) == expected


@pytest.mark.parametrize("x", [None, "", "  "])
def test_an_empty_target_is_refused(x: Any) -> None:
    for labels in (None, LABELS):
        with pytest.raises(ValueError, match=r"^target: wanted a class index, .* got nothing: the target is empty"):
            as_target(x).bind(Classifier(tiny_classifier(), labels=labels))


def test_an_empty_label_is_a_target() -> None:
    classifier = Classifier(tiny_classifier(), labels=["boat", "", " ", "fish"])
    bound = [as_target(text).bind(classifier) for text in ("", " ")]
    assert [target.label for target in bound] == [1, 2]
    with pytest.raises(ValueError, match="target is empty"):
        as_target("  ").bind(classifier)


@pytest.mark.parametrize(
    "x", [1.0, True, ["boat"], b"boat", torch.tensor(1.0), torch.tensor(True), object()], ids=lambda x: type(x).__name__
)
def test_values_of_other_kinds_are_refused_as_targets(x: Any) -> None:
    with pytest.raises(TypeError, match=r"^target: wanted a class index, a label or a target"):
        as_target(x)


def test_a_tensor_of_several_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scalar class index, got a tensor of shape \[1\]"):
        as_target(torch.tensor([1]))


@pytest.mark.parametrize("other", [1.0, 1, "boat", None])
def test_only_targets_add(other: Any) -> None:
    for operation in (lambda: ClassLogit(0) + other, lambda: ClassLogit(0) - other, lambda: other + ClassLogit(0)):
        with pytest.raises(TypeError):
            operation()


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_factors_are_finite(factor: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        factor * ClassLogit(0)


@pytest.mark.parametrize("factor", ["2", True, None, ClassLogit(0)])
def test_factors_are_numbers(factor: Any) -> None:
    with pytest.raises(TypeError):
        factor * ClassLogit(0)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: ClassLogit("bout"), "^label: wanted .* nearest: boat, house, .* got 'bout'"),
        (lambda: Neuron("layr2", 0), r"^layer: wanted .* nearest: layer2, .* got 'layr2'"),
        (
            lambda: Neuron("layer2.0", 12),
            r"^unit: wanted one of 12 units of layer2\.0, nearest: 7, 8, 9, 10, 11, got 12",
        ),
        (lambda: ClassLogit(0) + 2 * Neuron("hed", 0), "^layer: wanted .* nearest: head"),
    ],
)
def test_unknown_names_are_found_when_bound(target: Callable, message: str, classifier: Classifier) -> None:
    with pytest.raises(UnknownNameError, match=message):
        target().bind(classifier)


def test_a_unit_the_module_does_not_declare_is_found_when_run(classifier: Classifier) -> None:
    with pytest.raises(
        UnknownNameError, match=r"^unit: wanted one of 12 units of layer2, nearest: 7, 8, 9, 10, 11, got 12"
    ):
        scores(Neuron("layer2", 12), classifier, pixels())


def test_an_output_without_units_is_refused() -> None:
    model = nn.Sequential(nn.Unflatten(2, (2, 4)), nn.Flatten(1), nn.Linear(192, 4))
    with pytest.raises(ValueError, match=r"output of 0: wanted shape .* got \[2, 3, 2, 4, 8\]"):
        scores(Neuron("0", 0), Classifier(model), pixels())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, 0), TypeError, "layer: wanted a dotted name or a module, got int"),
        (("layer1", 1.5), TypeError, "unit: wanted a whole number, got float"),
        (("layer1", "1"), TypeError, "unit: wanted a whole number, got str"),
        (("layer1", -1), ValueError, "unit: wanted a number from 0, got -1"),
    ],
)
def test_a_bad_neuron_is_named(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Neuron(*arguments)


def test_disagreement_needs_a_classifier() -> None:
    with pytest.raises(TypeError, match="other: wanted a Classifier, got TinyClassifier"):
        Disagreement(tiny_classifier(), "boat")


def test_an_unbound_label_or_an_index_too_high_is_named_when_run() -> None:
    response = Response(pixels(), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="unresolved label 'boat'"):
        ClassLogit("boat")(response)
    with pytest.raises(ValueError, match="label: wanted an index below 4, the number of logits, got 4"):
        ClassProbability(4)(response)
