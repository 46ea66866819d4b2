"""Buffers that a forward updates: a call of a classifier leaves them as they were."""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.models.classifier import Classifier
from tests.tiny import TinyClassifier

FEW = dict(
    start="tree", iterations=3, num_inference_steps=2, n_validation=2, n_images=2, n_score=2, n_tokens=1, progress=False
)


class Counting(TinyClassifier):
    """The tiny classifier, whose logits are scaled by the number of runs, counted in a buffer."""

    def __init__(self) -> None:
        super().__init__(4)
        self.register_buffer("runs", torch.zeros(1))
        self.same = self.runs
        self.register_buffer("cache", torch.zeros(1), persistent=False)

    def count(self) -> None:
        self.runs += 1

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        self.count()
        return super().forward(pixels) * self.runs


class Replacing(Counting):
    def count(self) -> None:
        self.runs = self.runs + 1


class Unversioned(Counting):
    def count(self) -> None:
        self.runs.data += 1


class Sideways(Counting):
    def count(self) -> None:
        self.same += 1


class Growing(Counting):
    def count(self) -> None:
        self.runs.resize_(len(self.runs) + 1).fill_(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        self.count()
        return TinyClassifier.forward(self, pixels) * self.runs.sum()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def pixels(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [Counting, Replacing, Unversioned, Sideways, Growing])
def test_a_buffer_that_the_forward_updates_comes_back(kind: type[Counting]) -> None:
    model = kind().eval()
    before, places = state(model), [id(buffer) for buffer in model.buffers()]
    classifier = Classifier(model)
    fingerprint = classifier.fingerprint()
    answers = []
    for _ in range(3):
        answers.append(classifier(pixels()))
        assert all(map(torch.equal, state(model).values(), before.values()))
        assert [id(buffer) for buffer in model.buffers()] == places
    if kind is not Sideways:  # which writes past the module
        assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[1], answers[2]) and classifier.fingerprint() == fingerprint


@pytest.mark.parametrize("kind", [Counting, Replacing])
def test_gradients_of_two_runs_are_those_of_the_model(kind: type[Counting]) -> None:
    model = kind().eval()
    classifier, one, other = Classifier(model), pixels().requires_grad_(), pixels().requires_grad_()
    first, second = classifier(one), classifier(other)
    (first.sum() + second.sum()).backward()
    own = pixels().requires_grad_()
    TinyClassifier.forward(model, own).sum().backward()
    torch.testing.assert_close(one.grad, own.grad)
    torch.testing.assert_close(other.grad, own.grad)


def test_what_the_user_changes_between_calls_stays() -> None:
    model = Counting().eval()
    classifier = Classifier(model)
    first = classifier(pixels())
    model.runs.fill_(3.0)
    torch.testing.assert_close(classifier(pixels()), 4 * first)
    model.runs = torch.full((1,), 5.0)
    torch.testing.assert_close(classifier(pixels()), 6 * first)
    assert float(model.runs) == 5


@pytest.mark.parametrize("kind", [Counting, Replacing, Sideways])
@pytest.mark.parametrize("moved", [False, True])
def test_an_edit_without_a_version_stays_too(kind: type[Counting], moved: bool) -> None:
    model = kind().eval()
    model.count = (lambda: None) if not moved else model.count
    classifier = Classifier(model)
    classifier(pixels())
    model.runs.data.fill_(5.0)
    vars(model).pop("count")
    classifier(pixels())
    assert float(model.runs) == 5


def test_a_cache_belongs_to_the_model() -> None:
    class Caching(Counting):
        def count(self) -> None:
            self.cache = torch.ones(3)

    model = Caching().eval()
    Classifier(model)(pixels())
    assert model.cache.shape == (3,)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_buffer_comes_back_when_the_model_fails(error: type[BaseException]) -> None:
    class Failing(Counting):
        def count(self) -> None:
            super().count()
            raise error

    model = Failing().eval()
    with pytest.raises(error):
        Classifier(model)(pixels())
    assert float(model.runs) == 0


def test_a_buffer_comes_back_from_several_threads() -> None:
    model = Counting().eval()
    classifier = Classifier(model)
    classifier(pixels())
    threads = [threading.Thread(target=lambda: [classifier(pixels()) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert float(model.runs) == 0 and model.runs is model.same


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "kind", [torch.jit.script, lambda model: torch.compile(model, backend="eager")], ids=["scripted", "compiled"]
)
def test_a_buffer_of_a_converted_model_comes_back(kind: Callable[[nn.Module], nn.Module]) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("runs", torch.zeros(1))

        def forward(self, pixels: Tensor) -> Tensor:
            self.runs += 1
            return pixels.mean((2, 3)) * self.runs

    model = kind(Plain())
    classifier = Classifier(model)
    for _ in range(3):
        assert torch.equal(classifier(pixels()), pixels().mean((2, 3)))
        assert [float(buffer) for buffer in model.buffers()] == [0]


def quantising() -> nn.Module:
    """A model that is prepared for training with quantised weights, whose observers count in every run."""
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TinyClassifier(4).train()
        model.qconfig = get_default_qat_qconfig("fbgemm")
        return prepare_qat(model)


@pytest.mark.parametrize("make", [Counting, quantising])
def test_an_interrupted_run_goes_on(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make()
    before, calls = state(model), []

    def stop(_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    classifier = Classifier(model, output="softmax", name="counting")
    with dx.Explainer("tinyworld", classifier) as explainer:
        with pytest.raises(KeyboardInterrupt):
            explainer.explain(0, checkpoint=tmp_path, callback=stop, **FEW)
        assert all(map(torch.equal, state(model).values(), before.values()))
        assert explainer.explain(0, checkpoint=tmp_path, **FEW).activation
    assert all(map(torch.equal, state(model).values(), before.values()))
