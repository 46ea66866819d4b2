"""Targets as text: an exact label wins, a number is an index, and sums have the values of their terms."""

import pytest
import torch

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassLogit, Neuron, Response, Target, as_target, parse_target

LABELS = ("boat", "fish", "0.5*boat", "logit:fish", "a + b", "-neuron:x:1", "7")


@pytest.mark.parametrize("label", LABELS)
def test_an_exact_label_wins_whatever_is_in_it(label: str) -> None:
    assert parse_target(label, LABELS) == label


@pytest.mark.parametrize(
    ("text", "labels", "target"),
    [
        ("1", ("9", "8", "1", "0"), "1"),
        ("3", ("9", "8", "1"), 3),
        ("3", None, 3),
        ("a:3", ("a", "b"), "a:3"),
        ("great white shark", ("a", "b"), "great white shark"),
        ("T-shirt", None, "T-shirt"),
        ("a", None, "a"),
    ],
)
def test_a_text_without_a_kind_or_a_sign_stays_a_text_or_a_number(
    text: str, labels: tuple | None, target: int | str
) -> None:
    assert parse_target(text, labels) == target


def test_single_terms_name_their_kind() -> None:
    assert parse_target("logit:boat", LABELS) == ClassLogit("boat")
    assert parse_target("logit:1", LABELS) == ClassLogit(1)
    assert parse_target("logit:7", LABELS) == ClassLogit("7")
    assert parse_target("neuron:layer4.0:17", None) == Neuron("layer4.0", 17)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("logit:boat + 0.5*logit:fish", 3.0 + 0.5 * 4.0),
        ("logit:boat - logit:fish", 3.0 - 4.0),
        ("-logit:boat", -3.0),
        ("2 * logit:boat - .25*logit:1 + 1e1*logit:0", 2 * 3.0 - 0.25 * 4.0 + 10 * 3.0),
        ("-0.5*logit:boat", -1.5),
    ],
)
def test_sums_have_the_values_of_their_terms(text: str, value: float) -> None:
    target = parse_target(text, ("boat", "fish"))
    assert isinstance(target, Target)
    classifier = Classifier(lambda pixels: pixels.flatten(1)[:, :2], labels=["boat", "fish"])
    response = Response(torch.zeros(1, 3, 2, 2), torch.tensor([[3.0, 4.0]]))
    assert as_target(target).bind(classifier)(response).item() == pytest.approx(value)


@pytest.mark.parametrize("text", ["neuron:layer4", "logit:boat + neuron::3", "neuron:a:b", "0.5*neuron:x:-1"])
def test_a_neuron_without_layer_or_unit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^target: wanted a neuron as neuron:LAYER:UNIT"):
        parse_target(text, LABELS)
