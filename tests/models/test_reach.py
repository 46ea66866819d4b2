"""Modules behind functions and objects: they run in eval mode and stay as they are."""

import functools
import time
import weakref
from collections.abc import Callable
from logging import getLogger
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.reach import modules_in
from tests.tiny import TinyClassifier, tiny_classifier

PIXELS = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


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


class Slotted:
    """An object without a dict, which holds a model in a place of its class."""

    __slots__ = ("net",)

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the logits of the model."""
        return self.net(pixels)


class Nested(nn.Module):
    """A module with a plain object that holds a model."""

    def __init__(self, held: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.held = held

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of the model."""
        return self.held(pixels)


def own_file(code: str) -> Callable[[nn.Module], Callable[[Tensor], Tensor]]:
    """Return what makes a function of a model as a file of a user does, which has the model as the variable NET.

    Args:
        code: of the file; it defines ``run``.
    """

    def make(model: nn.Module) -> Callable[[Tensor], Tensor]:
        models = ModuleType("own_models")
        models.NET, models.BOX = model, {"a": {"m": model}}
        file = {"__name__": "own_file", "NET": model, "torch": torch, "own_models": models, "Held": Held}
        exec(code, file)
        return file["run"]

    return make


WAYS = {
    "global": own_file("def run(x): return NET(x)"),
    "global of a helper": own_file("def inner(x): return NET(x)\ndef run(x): return inner(x)"),
    "global in a function inside": own_file("def run(x):\n    def inner(): return NET(x)\n    return inner()"),
    "global under a decorator": own_file("@torch.enable_grad()\ndef run(x): return NET(x)"),
    "global object": own_file("held = Held(nets=[NET])\ndef run(x): return held(x)"),
    "variable of a module of Python": own_file("def run(x): return own_models.NET(x)"),
    "dicts of a module of Python": own_file("def run(x): return own_models.BOX['a']['m'](x)"),
    "global of a class": own_file("class Own:\n    def __call__(self, x): return NET(x)\nrun = Own()"),
    "value of a class": own_file(
        "class Own:\n    net = NET\n    def __call__(self, x): return self.net(x)\nrun = Own()"
    ),
    "property": own_file(
        "class Own:\n    @property\n    def net(self): return NET\n"
        "    def __call__(self, x): return self.net(x)\nrun = Own()"
    ),
    "attribute of a function": own_file("def run(x): return run.net(x)\nrun.net = NET"),
    "class method": own_file(
        "class Own:\n    net = NET\n    @classmethod\n    def ask(cls, x): return cls.net(x)\nrun = Own.ask"
    ),
    "slot": Slotted,
    "dict in a dict": lambda model: functools.partial(lambda box, x: box["a"]["m"](x), {"a": {"m": model}}),
    "object in an object": lambda model: Held(net=Held(net=model)),
    "three objects": lambda model: Held(nets=[Held(nets={"net": Held(net=model)})]),
    "weak reference": lambda model: functools.partial(lambda held, pixels: held()(pixels), weakref.ref(model)),
    "memory of a function": lambda model: functools.lru_cache(lambda pixels: model(pixels)),
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


@pytest.mark.parametrize("depth", [1, 3])
def test_a_module_behind_objects_of_a_module_is_frozen(depth: int) -> None:
    inside, pixels = tiny_classifier().train(), torch.rand(4, 3, 8, 8)
    held: Callable[[Tensor], Tensor] = inside
    for _ in range(depth):
        held = Held(net=held)
    classifier = Classifier(Nested(held).train(), output="softmax")
    assert torch.equal(classifier(pixels), tiny_classifier().eval()(pixels)) and inside in classifier.modules
    assert inside.training and torch.equal(inside.layer1[1].running_mean, torch.zeros(8))


def test_a_global_variable_that_the_forward_of_a_module_names_is_frozen() -> None:
    code = "class Own(torch.nn.Module):\n    def forward(self, x): return NET(x)\nrun = Own()"
    model = tiny_classifier().train()
    classifier = Classifier(own_file(code)(model), output="softmax")
    assert torch.equal(classifier(PIXELS), tiny_classifier().eval()(PIXELS)) and model.training


def test_only_what_code_names_of_a_module_of_python_is_found() -> None:
    model, other = tiny_classifier(), tiny_classifier()
    run = own_file("def run(x): return torch.softmax(own_models.NET(x), 1)")(model)
    run.__globals__["own_models"].OTHER = run.__globals__["OTHER"] = other
    assert modules_in(run) == [model]
    assert modules_in(own_file("def run(x): return x.NET")(model)) == []


def test_the_search_ends_in_a_large_structure() -> None:
    model = tiny_classifier()
    many = Held(net=model, rows=[[[i, {"row": [i]}] for i in range(100)] for _ in range(1000)], log=getLogger("a"))
    began = time.perf_counter()
    assert modules_in(many) == [model] and time.perf_counter() - began < 2


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
