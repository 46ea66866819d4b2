"""Layers of compiled, scripted and traced models."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.hooked import uncompiled
from tests.tiny import tiny_classifier

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Inside(nn.Module):
    """A model whose forward calls a compiled function, which calls a layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.run = torch.compile(lambda pixels: self.model(pixels), backend="eager")

    def forward(self, pixels: Tensor) -> Tensor:
        return self.run(pixels)


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def pixels(batch: int, size: int = 8) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


def output(model: nn.Module, layer: str, given: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, args, out: kept.append(out))
    with torch.no_grad():
        type(model).forward(model, given)
    handle.remove()
    return kept[-1]


@pytest.mark.parametrize(
    ("compiled", "prefix"),
    [(lambda model: torch.compile(model, backend="eager"), "_orig_mod."), (in_place, ""), (Inside, "model.")],
    ids=["compiled", "in place", "inside"],
)
@pytest.mark.parametrize("warm", [True, False])
def test_layers_of_a_compiled_model_are_read_in_any_order(compiled: Callable, prefix: str, warm: bool) -> None:
    plain, model = tiny_classifier().eval(), tiny_classifier().eval()
    classifier = Classifier(compiled(model), output="softmax")
    if warm:
        classifier(pixels(2))
    for layer, batch, size in [
        ("layer1", 2, 8),
        ("layer1", 3, 8),
        ("layer2", 2, 8),
        ("head", 3, 10),
        ("layer1", 3, 10),
        ("layer2", 2, 8),
    ]:
        found = classifier.respond(pixels(batch, size), [prefix + layer]).activations[prefix + layer]
        torch.testing.assert_close(found, output(plain, layer, pixels(batch, size)))
        torch.testing.assert_close(classifier(pixels(batch, size)), plain(pixels(batch, size)))


def test_a_call_without_layers_runs_compiled() -> None:
    runs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable:
        runs.append(1)
        return graph.forward

    classifier = Classifier(torch.compile(tiny_classifier(), backend=backend), output="softmax")
    classifier.respond(pixels(2), ["_orig_mod.layer1"])
    before = len(runs)
    classifier(pixels(3))
    assert len(runs) > before


def test_the_users_stance_comes_back_from_several_threads() -> None:
    torch.compile(tiny_classifier())  # which imports the compiler
    first, second, go = threading.Event(), threading.Event(), threading.Event()

    def hold(opened: threading.Event, until: threading.Event) -> None:
        with uncompiled():
            opened.set()
            assert until.wait(20)

    threads = [threading.Thread(target=hold, args=args) for args in ((first, second), (second, go))]
    threads[0].start()
    assert first.wait(20)
    threads[1].start()
    threads[0].join()
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    go.set()
    threads[1].join()
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_gradcam_of_a_compiled_model_is_that_of_the_model() -> None:
    pytest.importorskip("captum")
    plain = dx.maps.gradcam(Classifier(tiny_classifier(), output="softmax"), pixels(2), 1)
    classifier = Classifier(torch.compile(tiny_classifier(), backend="eager"), output="softmax")
    for _ in range(2):
        assert dx.maps.gradcam(classifier, pixels(2), 1) == pytest.approx(plain, abs=1e-5)
        classifier(pixels(1))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "convert", [torch.jit.script, lambda model: torch.jit.trace(model.eval(), pixels(2))], ids=["scripted", "traced"]
)
def test_a_layer_of_a_scripted_model_is_refused(convert: Callable) -> None:
    model = convert(tiny_classifier())
    refused = "layer: wanted a layer of an ordinary module, got layer1.0, a scripted or traced one"
    for classifier, prefix in ((Classifier(model), ""), (Classifier(nn.Sequential(model, nn.Identity())), "0.")):
        name = f"{prefix}layer1.0"
        for ask in (classifier.resolve_layer, lambda name, to=classifier: dx.Neuron(name, 1).bind(to)):
            with pytest.raises(ValueError, match=refused.replace("layer1.0", name)):
                ask(name)
        with pytest.raises(ValueError, match=refused.replace("layer1.0", name)):
            classifier.respond(pixels(2), [name])


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_part_of_an_ordinary_model_is_a_layer() -> None:
    traced = torch.jit.trace(nn.Conv2d(3, 4, 1), pixels(2))
    model = nn.Sequential(traced, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = Classifier(model, output="softmax").respond(pixels(2), ["0"]).activations["0"]
    torch.testing.assert_close(found, traced(pixels(2)))
    scripted = Classifier(nn.Sequential(torch.jit.script(nn.Conv2d(3, 4, 1)), *model[1:]), output="softmax")
    with pytest.raises(ValueError, match="layer: wanted a layer of an ordinary module, got 0, a scripted"):
        scripted.respond(pixels(2), ["0"])
