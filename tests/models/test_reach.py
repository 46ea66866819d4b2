"""Modules behind functions and objects: they run in eval mode and stay as they are."""

import functools
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.reach import modules_in
from tests.tiny import TinyClassifier, tiny_classifier


class Held:
    """An object that can be called, and holds a model in one of several ways."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the logits of the model."""
        (value,) = vars(self).values()
        model = value["net"] if isinstance(value, dict) else value[0] if isinstance(value, list) else value
        return model(pixels)


class Hidden(nn.Module):
    """A module with a model in a list, which torch does not register."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.models = [model]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of the model."""
        return self.models[0](pixels)


def with_default(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(pixels: Tensor, net: nn.Module = model) -> Tensor:
        return net(pixels)

    return run


WAYS = {
    "method": lambda model: model.forward,
    "partial": lambda model: functools.partial(TinyClassifier.forward, model),
    "partial of a method": lambda model: functools.partial(model.forward),
    "closure": lambda model: lambda pixels: model(pixels),
    "default": with_default,
    "attribute": lambda model: Held(net=model),
    "list": lambda model: Held(nets=[model]),
    "dict": lambda model: Held(nets={"net": model}),
    "function of an object": lambda model: Held(run=lambda pixels: model(pixels)),
    "method of an object": lambda model: Held(net=model).__call__,
    "closure of an object": lambda model: functools.partial(lambda held, pixels: held(pixels), Held(net=model)),
    "list of a module": Hidden,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_module_behind_a_function_is_frozen(way: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> None:
    model = tiny_classifier().train()
    classifier, pixels = Classifier(way(model), output="softmax"), torch.rand(4, 3, 8, 8)
    given = pixels.clone().requires_grad_()
    assert model in modules_in(classifier.model) or model in classifier.modules[0].models
    logits = classifier(given)
    logits.sum().backward()
    assert model.training and torch.equal(model.layer1[1].running_mean, torch.zeros(8))
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert torch.equal(logits, tiny_classifier().eval()(pixels)), "eval mode"


def test_every_module_is_found_once() -> None:
    model = tiny_classifier()
    assert modules_in(model, model.forward, lambda pixels: model.layer1(pixels), None) == [model]
    assert modules_in(model.layer1, model) == [model]
    assert modules_in(len, print, 3, TinyClassifier, SimpleNamespace(a=3)) == []


def test_circles_and_long_lists_end() -> None:
    model = tiny_classifier()
    object.__setattr__(model, "parent", [model])
    round_trip = Held(values=list(range(10**6)))
    round_trip.itself = round_trip
    assert modules_in(model, round_trip) == [model]


def test_a_preprocess_behind_an_object_is_frozen() -> None:
    steps = nn.BatchNorm2d(3).train()
    Classifier(tiny_classifier(), preprocess=Held(net=steps))(torch.rand(2, 3, 8, 8))
    assert steps.training and torch.equal(steps.running_mean, torch.zeros(3))


@pytest.mark.parametrize("place", ["attribute", "list", "closure"])
def test_a_module_that_the_user_replaces_after_a_call_is_frozen(place: str) -> None:
    pixels, inside = torch.rand(4, 3, 8, 8), tiny_classifier()
    held, listed = Held(net=inside), Held(nets=[inside])

    def closed(x: Tensor) -> Tensor:
        return inside(x)

    other = tiny_classifier().train()
    classifier = Classifier({"attribute": held, "list": listed, "closure": closed}[place], output="softmax")
    classifier(pixels)
    held.net, inside = other, other
    vars(listed)["nets"][0] = other
    logits = classifier(pixels)
    assert other.training and torch.equal(other.layer1[1].running_mean, torch.zeros(8))
    assert torch.equal(logits, tiny_classifier().eval()(pixels)), "eval mode"


def test_a_module_that_the_first_run_makes_is_frozen_then() -> None:
    class Late(Held):
        def __call__(self, pixels: Tensor) -> Tensor:
            if not vars(self):
                self.net = tiny_classifier().eval()
            return super().__call__(pixels)

    late = Late()
    classifier = Classifier(late, output="softmax")
    classifier(torch.rand(2, 3, 8, 8))
    late.net.train()
    classifier(torch.rand(2, 3, 8, 8))
    assert late.net.training and torch.equal(late.net.layer1[1].running_mean, torch.zeros(8))
    classifier.model = other = tiny_classifier()
    assert classifier.modules == [other]
