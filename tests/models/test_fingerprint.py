"""The hash of a model's state: every kind of entry counts, and nothing of the model changes."""

import datetime
import enum
import hashlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.fingerprint import weights_sha256
from tests.tiny import TinyClassifier, tiny_classifier


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


class Extra(TinyClassifier):
    """The tiny classifier, with a value beside its weights in its state."""

    def __init__(self, value: object) -> None:
        super().__init__(4)
        self.value = value

    def get_extra_state(self) -> object:
        return self.value

    def set_extra_state(self, state: object) -> None:
        self.value = state


def extra(value: object) -> str:
    torch.manual_seed(0)
    return weights_sha256(model=Extra(value))


def test_the_hash_of_weights_alone_is_that_of_release_0_1() -> None:
    model, digest = tiny_classifier(), hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"model.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy(force=True).tobytes())
    assert weights_sha256(model=model) == digest.hexdigest()


def values() -> list[object]:
    return [
        None,
        1,
        1.0,
        True,
        "1",
        b"1",
        torch.float16,
        Kind.ONE,
        Kind.TWO,
        [1],
        (1,),
        [1, 2],
        {1},
        {"a": 1, "b": 2},
        {"a": 1, "b": 3},
        {"a": [torch.zeros(2)]},
        {"a": [torch.ones(2)]},
        np.zeros(2),
        np.ones(2),
        torch.eye(2).to_sparse(),
        (2 * torch.eye(2)).to_sparse(),
        torch.eye(2).to_sparse_csr(),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8),
        torch.quantize_per_tensor(torch.ones(2) / 2, 0.25, 0, torch.qint8),
        torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.qint8),
        torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 1, torch.qint8),
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_kind_of_value_counts() -> None:
    found = [extra(value) for value in values()]
    assert len(set(found)) == len(found)


def test_equal_values_have_one_hash() -> None:
    assert extra({"a": 1, "b": {2, 1}}) == extra({"b": {1, 2}, "a": 1})
    assert extra(io.BytesIO(b"1")) == extra(b"1")


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "from tests.models.test_fingerprint import *; print(extra({'a': {'x', 'y', 'z'}, 'b': Kind.ONE}))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == extra({"a": {"x", "y", "z"}, "b": Kind.ONE})


@pytest.mark.parametrize("value", [object(), [datetime.date(2026, 1, 1)], {"a": {"b": object}}])
def test_another_value_is_named(value: object) -> None:
    wanted = r"^model: wanted a state_dict of tensors, .* which its entry model\._extra_state.* is not, got \w+"
    with pytest.raises(TypeError, match=wanted):
        extra(value)


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(tiny_classifier().eval(), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [quantised, lambda: Extra({"version": 1})])
def test_a_classifier_of_such_a_model_has_a_fingerprint(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    first = Classifier(make())
    torch.manual_seed(0)
    assert first.fingerprint() == Classifier(make()).fingerprint() and len(first.fingerprint()) == 64


def test_a_hash_leaves_buffers_as_they_are() -> None:
    class Observed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("low", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return x

    model = Observed()
    weights_sha256(model=model)
    assert model.low.resize_(4).shape == (4,), "a storage that numpy has seen cannot be resized"
