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


@pytest.mark.parametrize("text", ["logit:boat + 0.5*logit:fish", "-logit:boat", "neuron::0", "boat + fish"])
def test_python_takes_the_same_texts(text: str) -> None:
    model = torch.nn.Flatten()
    classifier = Classifier(model, labels=["boat", "fish", "c"])
    pixels = torch.tensor([3.0, 4.0, 5.0]).reshape(1, 3, 1, 1)
    if text == "neuron::0":  # the name of the whole model is empty, so that it is no text of a neuron
        with pytest.raises(ValueError, match="wanted a neuron as neuron:LAYER:UNIT"):
            as_target(text).bind(classifier)
        return
    found, parsed = (as_target(one).bind(classifier) for one in (text, parse_target(text, classifier.labels)))
    response = classifier.respond(pixels)
    assert found.describe() == parsed.describe() and found(response).item() == parsed(response).item()


def test_a_text_that_is_a_label_is_the_class_when_it_is_bound() -> None:
    classifier = Classifier(lambda pixels: pixels.flatten(1)[:, :7], labels=LABELS)
    for index, label in enumerate(LABELS):
        assert as_target(label).bind(classifier).label == index
    with pytest.raises(ValueError, match="target: wanted one that is bound to a classifier"):
        as_target("a + b")(Response(torch.zeros(1, 3, 2, 2), torch.zeros(1, 7)))


def test_a_text_that_tells_classes_of_one_label_apart_is_a_term_of_a_sum() -> None:
    labels = ["boat", "logit:boat", "logit:boat"]
    classifier = Classifier(lambda pixels: pixels.flatten(1)[:, :3], labels=labels, output="softmax")
    response = Response(torch.zeros(1, 3, 2, 2), torch.tensor([[3.0, 4.0, 6.0]]))
    for text in ("logit:logit:boat (2) - logit:0", "logit:boat (2) - probability:boat"):
        assert as_target(text).bind(classifier)(response).item() == pytest.approx(6.0 - 3.0)


def test_a_position_picks_one_value_of_a_unit() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Identity(), torch.nn.Flatten()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(pixels))

    classifier = Classifier(Model(), output="softmax")
    pixels = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4) / 96

    def value(target: object) -> list[float]:
        bound = as_target(target).bind(classifier)
        return bound(classifier.respond(pixels, bound.layers)).tolist()

    assert value("neuron:first:2,1,3") == value("first:2,1,3") == pixels[:, 2, 1, 3].tolist()
    assert value("first:2") == pytest.approx(pixels[:, 2].mean((1, 2)).tolist())
    assert as_target("first:2,1,3").bind(classifier).describe() == "Neuron(first, 2, at=(1, 3))"
    for wrong in ("first:2,1", "first:2,4,0", "first:2,0,0,0", "last:2,0"):
        with pytest.raises(ValueError, match=r"^at: wanted (a position among|None)"):
            value(wrong)


@pytest.mark.parametrize("at", [(), (-1, 0), "12", 3, (0.5,), (True,)])
def test_a_position_is_of_whole_numbers_from_0(at: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^at: wanted"):
        Neuron("layer", 0, at=at)  # type: ignore[arg-type]
