"""Text encoder and classifier recorded and replayed, with a recorder that runs the function again, on the CPU."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.engine.graphs.policy import Graphs
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassLogit, ClassProbability, Neuron
from tests.engine.graphs.test_recording import FIRST, REPLAYED, Rerun
from tests.explaining import QUICK, assert_same_result, quick_explainer
from tests.tiny import LABELS, tiny_classifier, tiny_sd, tiny_sdxl

OFF = "eager: graphs need tensors on a CUDA device, not on cpu"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffexplain_fast.engine.graphs.function.Graphs", partial(Graphs, recorder=Rerun))


def states(explanation: object) -> dict[str, str]:
    return explanation.settings["cuda_graphs"]  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("target", [ClassLogit("boat"), ClassProbability("fish"), Neuron("layer1.0", 1)], ids=str)
@pytest.mark.parametrize("pipe", [None, tiny_sdxl], ids=["sd15", "sdxl"])
def test_an_explanation_is_the_same_to_the_last_bit(target, pipe, recorded, monkeypatch) -> None:
    with quick_explainer(pipe=pipe and pipe()) as explainer:
        replayed = explainer.explain(target, **QUICK)
    monkeypatch.undo()
    with quick_explainer(pipe=pipe and pipe()) as explainer:  # another explainer, because recordings live across calls
        eager = explainer.explain(target, **QUICK)
    assert_same_result(replayed, eager)
    assert states(replayed) == {"text_encoder": REPLAYED, "classifier": REPLAYED}
    assert states(eager) == {"text_encoder": OFF, "classifier": OFF}


def test_a_hook_of_the_users_own_still_runs(recorded: None) -> None:
    module, seen = tiny_classifier(), []
    module.register_forward_hook(lambda *_: seen.append(1))
    with quick_explainer(module) as explainer:
        found = explainer.explain("boat", **QUICK)
    assert states(found)["classifier"] == "eager: a hook on TinyClassifier" and len(seen) > QUICK["iterations"]


def test_a_model_that_changes_itself_is_never_replayed_as_it_was(recorded: None) -> None:
    class Counting(nn.Module):
        """A classifier whose answer depends on the number of its calls."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.calls = tiny_classifier(), 0

        def forward(self, pixels: Tensor) -> Tensor:
            """Return logits [B, 4]."""
            self.calls += 1
            return self.model(pixels) * self.calls

    with quick_explainer(Counting()) as explainer:
        assert states(explainer.explain("boat", **QUICK))["classifier"] == FIRST


def test_functions_and_the_reference_are_never_recorded(recorded: None) -> None:
    module = tiny_classifier()
    with quick_explainer() as explainer:
        explainer.classifier = Classifier(lambda pixels: module(pixels), labels=LABELS)
        assert states(explainer.explain("boat", **QUICK)) == {
            "text_encoder": REPLAYED,
            "classifier": "eager: switched off",
        }
    with quick_explainer(backend="reference") as explainer:
        found = states(explainer.explain("boat", **QUICK))
    assert set(found.values()) == {"eager: switched off"}


@pytest.mark.gpu
@pytest.mark.parametrize("pipe", [tiny_sd, tiny_sdxl])
def test_on_a_gpu_an_explanation_takes_the_same_way(pipe) -> None:
    """The calls are recorded into real graphs; kernels that sum in any order may change the last bits."""
    found = []
    for graphs in ("auto", False):
        made = pipe().to("cuda")
        explainer = Explainer(made, Classifier(tiny_classifier().cuda(), labels=LABELS))
        explainer._sampler_options["cuda_graphs"] = graphs
        found.append(explainer.explain("boat", **QUICK))
    replayed, eager = found
    assert states(replayed) == {"text_encoder": REPLAYED, "classifier": REPLAYED}
    for one, two in zip(replayed.history, eager.history, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-2)
    assert torch.allclose(replayed.prompt_embeds, eager.prompt_embeds, rtol=0, atol=1e-2)


def test_kept_constants_serve_calls_of_every_mode() -> None:
    """Token ids and channel means are created once, also if the first call runs without gradients."""
    with quick_explainer() as explainer:
        pipeline = explainer.pipeline
        soft = pipeline.token_embeddings("boat")
        with torch.inference_mode():
            pipeline.encode_soft(soft, prefix="A photo of")
        leaf = soft.clone().requires_grad_()
        pipeline.encode_soft(leaf, prefix="A photo of").prompt_embeds.sum().backward()
        assert leaf.grad is not None
