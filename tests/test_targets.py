"""Targets: their values, gradients, algebra and descriptions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassLogit, ClassProbability, Disagreement, Neuron, Response, Target
from tests.tiny import LABELS, seeded, tiny_classifier


class Tokens(nn.Module):
    """A tiny transformer classifier: its block returns tokens [B, T, D], its recurrent layer a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.rows = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        tokens = self.block(self.embed(pixels).flatten(2).transpose(1, 2))
        return self.head(self.rows(tokens)[0].mean(1))


def pixels(batch: int = 2, size: int = 8) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(tiny_classifier().double(), labels=LABELS)


@pytest.fixture
def tokens() -> Classifier:
    return Classifier(seeded(Tokens).double(), labels=LABELS)


def scores(target: Target, classifier: Classifier, images: Tensor) -> Tensor:
    bound = target.bind(classifier)
    return bound(classifier.respond(images, bound.layers))


def other_five() -> Classifier:
    return Classifier(seeded(lambda: tiny_classifier(5)).double(), labels=("sky", *reversed(LABELS)), name="other")


CASES: dict[str, Callable[[], Target]] = {
    "logit": lambda: ClassLogit("fish"),
    "probability": lambda: ClassProbability("tree"),
    "map": lambda: Neuron("layer2", 3),
    "normalised": lambda: Neuron("layer1.1", 0),
    "output": lambda: Neuron("head", 2),
    "disagreement": lambda: Disagreement(other_five(), "boat"),
    "sum": lambda: ClassLogit(0) - 0.5 * (Neuron("layer1", 2) + 3 * ClassProbability("house")),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_targets_are_exact(case: str, classifier: Classifier) -> None:
    target = CASES[case]()
    assert scores(target, classifier, pixels()).shape == (2,)
    assert gradcheck(lambda x: scores(target, classifier, x), pixels(1, 6).requires_grad_())


@pytest.mark.parametrize("target", [Neuron("block", 5), Neuron("rows", 1), Neuron("block.linear1", 3)], ids=str)
def test_gradients_of_neurons_in_tokens_and_tuples_are_exact(target: Target, tokens: Classifier) -> None:
    assert gradcheck(lambda x: scores(target, tokens, x), pixels(1).requires_grad_(), fast_mode=True)


def test_each_score_is_of_its_own_image(classifier: Classifier) -> None:
    images = pixels(3)
    for make in CASES.values():
        alone = torch.cat([scores(make(), classifier, image[None]) for image in images])
        assert torch.allclose(scores(make(), classifier, images), alone, rtol=1e-10)


def test_class_targets_have_the_values_of_their_formulas(classifier: Classifier) -> None:
    images = pixels()
    logits = classifier(images)
    assert torch.equal(scores(ClassLogit("house"), classifier, images), logits[:, 2])
    expected = -nn.functional.cross_entropy(logits, torch.tensor([1, 1]), reduction="none")
    assert torch.allclose(scores(ClassProbability("fish"), classifier, images), expected, rtol=1e-12)


def test_a_probability_of_half_precision_logits_is_computed_in_float32() -> None:
    response = Response(pixels(), torch.tensor([[12.0, 0.0], [0.0, 12.0]], dtype=torch.float16))
    score = ClassProbability(0)(response)
    assert score.dtype == torch.float32
    assert math.isclose(float(score[0]), -math.log1p(math.exp(-12)), rel_tol=1e-2)


def test_a_neuron_is_the_mean_over_positions(classifier: Classifier, tokens: Classifier) -> None:
    images, model = pixels(), classifier.model
    with torch.no_grad():
        maps = model.eval().layer1(images * 2 - 1)
        block = tokens.model.eval().block(tokens.model.embed(images).flatten(2).transpose(1, 2))
        rows = tokens.model.rows(block)[0]
        assert torch.allclose(scores(Neuron("layer1", 4), classifier, images), maps[:, 4].mean((1, 2)))
        assert torch.allclose(scores(Neuron("block", 5), tokens, images), block[:, :, 5].mean(1))
        assert torch.allclose(scores(Neuron("rows", 1), tokens, images), rows[:, :, 1].mean(1))
        assert torch.allclose(scores(Neuron("head", 1), classifier, images), classifier(images)[:, 1] / 4)
        assert scores(Neuron("block.linear1", 1), tokens, images).isfinite().all(), "torch's fused path skips no hook"


def test_a_neuron_by_module_is_the_neuron_by_name(classifier: Classifier) -> None:
    by_module = Neuron(classifier.model.layer2, 3)
    assert by_module.bind(classifier) == Neuron("layer2", 3)
    assert torch.equal(
        by_module(classifier.respond(pixels(), by_module.layers)), scores(by_module, classifier, pixels())
    )


def test_disagreement_matches_classes_by_label(classifier: Classifier) -> None:
    images, other = pixels(), other_five()
    expected = classifier(images).log_softmax(1)[:, 0] - other(images).log_softmax(1)[:, 4]
    assert torch.allclose(scores(Disagreement(other, "boat"), classifier, images), expected)
    assert torch.allclose(scores(Disagreement(other, 0), classifier, images), expected)
    unnamed = Classifier(other.model)
    by_index = classifier(images).log_softmax(1)[:, 1] - other(images).log_softmax(1)[:, 1]
    assert torch.allclose(scores(Disagreement(unnamed, "fish"), classifier, images), by_index)
    assert torch.equal(scores(Disagreement(classifier, 2), classifier, images), torch.zeros(2, dtype=torch.float64))


def test_disagreement_about_a_class_the_other_lacks(classifier: Classifier) -> None:
    other = Classifier(tiny_classifier(2).double(), labels=("ship", "boot"))
    with pytest.raises(UnknownNameError, match="nearest: boot, ship, got 'boat'"):
        Disagreement(other, "boat").bind(classifier)


def test_targets_add_subtract_and_scale(classifier: Classifier) -> None:
    images = pixels()
    a, b, c = ClassLogit("boat"), Neuron("layer1", 1), ClassProbability(2)
    x, y, z = (scores(target, classifier, images) for target in (a, b, c))
    for target, expected in {
        a + b: x + y,
        a - b: x - y,
        -a: -x,
        2 * a: 2 * x,
        a * 0.25: x / 4,
        -(a - 2 * (b - c)): -x + 2 * y - 2 * z,
        3 * (a + 0.5 * (b + c)) + a: 4 * x + 1.5 * (y + z),
        sum([a, b, c]): x + y + z,
        np.float32(0.5) * a: x / 2,
        0 * a + b: y,
        a / 2: x / 2,
        (a - b) / np.float32(-4): (y - x) / 4,
    }.items():
        assert torch.allclose(scores(target, classifier, images), expected, rtol=1e-12, atol=1e-12), target.describe()


def test_a_target_describes_its_formula(classifier: Classifier) -> None:
    target = ClassLogit(0) + 0.5 * Neuron(classifier.model.layer2, 7)
    assert target.describe() == "ClassLogit(0) + 0.5 * Neuron(Sequential, 7)"
    assert target.bind(classifier).describe() == "ClassLogit(boat) + 0.5 * Neuron(layer2, 7)"
    assert (-2 * (ClassLogit("boat") - ClassProbability("fish"))).describe() == (
        "-2 * ClassLogit(boat) + 2 * ClassProbability(fish)"
    )
    assert (-ClassLogit("boat") - Neuron("a.b", 0)).describe() == "-ClassLogit(boat) - Neuron(a.b, 0)"
    other = other_five()
    assert (
        Disagreement(other, "fish").bind(classifier).describe()
        == f"Disagreement(other {other.fingerprint()[:8]}, fish)"
    )


def test_classes_that_share_a_label_are_called_by_index() -> None:
    classifier = Classifier(tiny_classifier(), labels=("crane", "boat", "crane", "fish"))
    assert ClassLogit(2).bind(classifier).describe() == "ClassLogit(crane (2))"
    with pytest.raises(ValueError, match=r"classes \[0, 2\] share this label, got 'crane'"):
        ClassLogit("crane").bind(classifier)


def test_without_labels_a_class_is_called_by_index() -> None:
    assert ClassLogit(0).bind(Classifier(tiny_classifier())).describe() == "ClassLogit(0)"


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (ClassLogit("fish"), 1),
        (Neuron("layer1", 0), None),
        (Neuron("layer1", 0) + ClassProbability("tree"), 3),
        (-ClassLogit("fish"), None),
        (ClassLogit("boat") - ClassLogit("fish"), 0),
        (ClassLogit("boat") + 2 * ClassLogit("fish"), 1),
        (ClassLogit("house") + ClassLogit("fish"), 2),
        (5 * Neuron("layer1", 0) + 0.1 * ClassLogit("house"), 2),
        (0 * ClassLogit("house") + Neuron("layer1", 0), None),
    ],
)
def test_which_class_counts_as_a_hit(target: Target, label: int | None, classifier: Classifier) -> None:
    assert target.bind(classifier).label == label


def test_layers_are_named_once(classifier: Classifier) -> None:
    target = Neuron("layer1", 0) + Neuron("layer2", 0) - Neuron("layer1", 3) + ClassLogit(0)
    assert target.layers == target.bind(classifier).layers == ("layer1", "layer2")


def test_binding_changes_nothing_and_repeats(classifier: Classifier) -> None:
    target = ClassLogit("fish") + 2 * Neuron("layer1", 1)
    bound = target.bind(classifier)
    assert target.describe() == "ClassLogit(fish) + 2 * Neuron(layer1, 1)" and target.terms[0][1].label == "fish"
    assert bound.bind(classifier) == bound
