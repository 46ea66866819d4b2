"""Classifiers of any kind: their answers, their refusals, and the user's model, which never changes."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.preprocess import Preprocess
from tests.tiny import LABELS, TinyClassifier, tiny_classifier


class Happening(TinyClassifier):
    """The tiny classifier, with a given event in the middle of its forward."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__(4)
        self.happen = happen

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4], if nothing happens."""
        self.layer1(pixels)
        self.happen()
        return super().forward(pixels)


class Output(NamedTuple):
    logits: Tensor
    auxiliary: Tensor


def pixels(batch: int = 2, size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)


def state(model: nn.Module) -> str:
    """The state of a module that a call might change."""
    hooks = [
        (name, {key: list(value) for key, value in vars(part).items() if key.endswith("hooks")}, part.training)
        for name, part in model.named_modules()
    ]
    weights = [(name, p.requires_grad, p.grad, p._version, p.dtype) for name, p in model.named_parameters()]
    buffers = [(name, b._version, b.tolist()) for name, b in model.named_buffers()]
    return str([hooks, weights, buffers, torch.get_rng_state().sum(), torch.is_grad_enabled()])


def unusual(model: TinyClassifier) -> TinyClassifier:
    """Put a model into unusual modes and flags, with a hook."""
    model.train()
    model.layer2.eval()
    model.head.bias.requires_grad_(False)
    model.layer1.register_forward_hook(lambda *_: None)
    return model


def test_logits_equal_the_output_of_the_model() -> None:
    model = tiny_classifier()
    classifier = Classifier(model, labels=LABELS)
    assert torch.equal(classifier(pixels()), model(pixels()))
    assert (classifier.name, classifier.device, classifier.truth) == ("TinyClassifier", torch.device("cpu"), None)
    assert classifier.labels == LABELS and classifier.model is model


def test_gradients_reach_only_the_pixels() -> None:
    model = tiny_classifier().double()
    classifier = Classifier(model, preprocess=Preprocess(size=6, crop=(5, 5), mean=(0.5,) * 3, std=(0.2, 0.3, 0.4)))
    x = pixels(1, 7, torch.float64).requires_grad_()
    assert gradcheck(classifier, x)
    classifier(x).sum().backward()
    assert x.grad is not None and all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("layers", [(), ("layer1", "head")], ids=["call", "respond"])
def test_nothing_of_the_model_changes(layers: tuple) -> None:
    model = unusual(tiny_classifier())
    before, classifier = state(model), Classifier(model)
    assert classifier.respond(pixels().requires_grad_(), layers).logits.requires_grad
    assert state(model) == before
    assert torch.equal(classifier(pixels()), classifier(pixels())), "eval mode, whatever the model's own"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_of_the_model_changes_when_it_fails(error: type[BaseException]) -> None:
    def happen() -> None:
        raise error

    model = unusual(Happening(happen))
    before, classifier = state(model), Classifier(model)
    for call in (lambda: classifier(pixels()), lambda: classifier.respond(pixels(), ("layer1", model.layer2))):
        with pytest.raises(error):
            call()
        assert state(model) == before


def test_nothing_of_the_model_changes_when_a_layer_is_unknown() -> None:
    model = unusual(tiny_classifier())
    before = state(model)
    with pytest.raises(UnknownNameError):
        Classifier(model).respond(pixels(), ("layer1", "layer9"))
    assert state(model) == before


def test_a_model_left_in_training_keeps_its_statistics() -> None:
    model = tiny_classifier().train()
    classifier = Classifier(model)
    for _ in range(3):
        classifier(pixels() + 3)
    assert torch.equal(model.layer1[1].running_mean, torch.zeros(8)) and model.training
    assert torch.equal(classifier(pixels()), tiny_classifier()(pixels()))


def test_a_preprocess_with_modules_is_frozen_too() -> None:
    steps = nn.Sequential(nn.BatchNorm2d(3)).train()
    x = pixels().requires_grad_()
    Classifier(tiny_classifier(), preprocess=steps)(x).sum().backward()
    assert steps.training and torch.equal(steps[0].running_mean, torch.zeros(3)) and steps[0].weight.grad is None


def test_activations_have_the_key_that_requested_them() -> None:
    model = tiny_classifier()
    x = pixels().requires_grad_()
    response = Classifier(model).respond(x, ["layer1.0", model.layer2, "layer1.0"])
    assert set(response.activations) == {"layer1.0", model.layer2}
    assert response.activations["layer1.0"].shape == (2, 8, 8, 8) and response.pixels is x
    assert torch.equal(response.logits, model(x))
    assert torch.autograd.grad(response.activations[model.layer2].sum(), x)[0].abs().sum() > 0


def test_an_activation_is_kept_from_modules_that_work_in_place() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(256, 4))
    kept = Classifier(model).respond(pixels(), ["0"]).activations["0"]
    assert torch.equal(kept, model[0](pixels())) and kept.min() < 0


def test_of_several_runs_of_a_layer_the_last_counts() -> None:
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Flatten(), nn.Linear(192, 2))
    assert torch.equal(Classifier(model).respond(pixels(), [shared]).activations[shared], model[:3](pixels()))


def test_a_layer_that_does_not_run_is_named() -> None:
    model = tiny_classifier()
    model.spare = nn.Linear(2, 2)
    with pytest.raises(
        ValueError, match="layer: wanted a module that runs when the model runs, got spare, which did not"
    ):
        Classifier(model).respond(pixels(), ["layer1", "spare"])


def test_a_layer_without_a_tensor_is_named() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    model = Happening(lambda: model.nothing(None))
    model.nothing = Nothing()
    with pytest.raises(
        TypeError, match="layer: wanted a module that returns a tensor, which nothing does not, got NoneType"
    ):
        Classifier(model).respond(pixels(), ["nothing"])
    assert not model.nothing._forward_hooks


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((1, 3, 8, 8)), TypeError, r"pixels: wanted a tensor \[B, 3, H, W\] in \[0, 1\], got ndarray"),
        (torch.zeros(3, 8, 8), ValueError, r"pixels: wanted shape \[B, 3, H, W\] .* got \[3, 8, 8\]"),
        (torch.zeros(1, 1, 3, 8, 8), ValueError, r"got \[1, 1, 3, 8, 8\]"),
        (torch.zeros(1, 1, 8, 8), ValueError, r"got \[1, 1, 8, 8\]"),
        (torch.zeros(1, 8, 8, 3), ValueError, r"got \[1, 8, 8, 3\]"),
        (torch.zeros(0, 3, 8, 8), ValueError, r"at least one image, got \[0, 3, 8, 8\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ValueError, r"floating point dtype, .* got torch\.uint8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.complex64), ValueError, r"floating point dtype, .* got torch\.complex64"),
        (torch.zeros(1, 3, 8, 8, device="meta"), ValueError, "device cpu, that of the classifier, got meta"),
    ],
)
def test_bad_pixels_are_named(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(tiny_classifier())(x)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: x.mean((1, 2, 3)), ValueError, r"model: wanted floating point logits \[2, C\], got \[2\]"),
        (lambda x: x, ValueError, r"got \[2, 3, 8, 8\]"),
        (lambda x: x.mean((2, 3))[:1], ValueError, r"got \[1, 3\]"),
        (lambda x: x.flatten(1).argmax(1, keepdim=True), ValueError, r"got \[2, 1\] in torch\.int64"),
        (lambda x: (x.mean((2, 3)),), TypeError, r"model: wanted one that returns logits \[B, C\], .* got tuple"),
        (lambda x: None, TypeError, "got NoneType"),
        (lambda x: x.detach().mean((2, 3)), ValueError, "model: wanted logits differentiable in the pixels"),
        (lambda x: torch.zeros(2, 4), ValueError, "labels: wanted one for each of the 4 logits, got 3 labels"),
    ],
)
def test_bad_answers_are_named(answer: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(answer, labels=("a", "b", "c"))(pixels().requires_grad_())


def test_answers_without_a_gradient_are_accepted_if_none_is_needed() -> None:
    classifier = Classifier(lambda x: x.detach().mean((2, 3)))
    assert classifier(pixels()).shape == (2, 3)
    with torch.no_grad():
        assert classifier(pixels().requires_grad_()).shape == (2, 3)


def test_the_logits_of_an_object_are_read() -> None:
    classifier = Classifier(lambda x: Output(x.mean((2, 3)), x))
    assert torch.equal(classifier(pixels()), pixels().mean((2, 3)))


def test_a_function_serves_without_device_and_layers() -> None:
    model = tiny_classifier()
    classifier = Classifier(lambda x: model(x), labels=LABELS)
    assert classifier.device is None
    assert torch.equal(classifier(pixels()), model(pixels()))
    assert classifier.respond(pixels()).activations == {}
    assert classifier.fingerprint().startswith("callable ") and "<lambda>" in classifier.fingerprint()
    assert Classifier(functools.partial(model), name="mine").fingerprint() == "callable functools.mine"
    for layer in ("layer1", model.layer1):
        with pytest.raises(ValueError, match="layer: wanted a classifier made from a torch module, got the function"):
            classifier.respond(pixels(), [layer])


def test_pixels_take_the_dtype_of_the_weights() -> None:
    x = pixels(dtype=torch.float64).requires_grad_()
    logits = Classifier(tiny_classifier().bfloat16())(x)
    assert logits.dtype == torch.bfloat16
    assert torch.autograd.grad(logits.sum(), x)[0].dtype == torch.float64


def test_a_preprocess_that_does_not_return_a_tensor_is_named() -> None:
    with pytest.raises(TypeError, match="preprocess: wanted a function that returns a tensor, got list"):
        Classifier(tiny_classifier(), preprocess=lambda x: x.tolist())(pixels())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "model: wanted a module or function of pixels, got int"),
        ({"model": TinyClassifier}, TypeError, "model: wanted .* got type"),
        ({"model": Classifier(tiny_classifier())}, TypeError, "model: wanted .* got Classifier"),
        ({"preprocess": "resize"}, TypeError, "preprocess: wanted a function of pixels, or None, got str"),
        ({"labels": "boat"}, TypeError, "labels: wanted a list of strings, got str"),
        ({"labels": {"boat": 0}}, TypeError, "labels: wanted a list of strings, got dict"),
        ({"labels": ["boat", 3]}, TypeError, "labels: wanted a list of strings, got int"),
        ({"labels": []}, ValueError, "labels: wanted one for each class, or None, got an empty list"),
        ({"truth": ["boat"]}, TypeError, "truth: wanted a dict from labels, or None, got list"),
        ({"name": 3}, TypeError, "name: wanted a string, or None, got int"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(**{"model": tiny_classifier(), **arguments})
