"""A model or preprocess that does not take its input is named, with what it was given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.errors import RefusedInputError
from diffexplain_fast.models.classifier import Classifier
from tests.cli.running import run
from tests.tiny import tiny_classifier


def pixels() -> Tensor:
    return torch.rand(2, 3, 8, 8)


def sixth(given: Tensor) -> Tensor:
    return given[:, 5]


def head(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Checking(nn.Module):
    def forward(self, given: Tensor) -> Tensor:
        """Refuse everything."""
        assert given.shape[-1] == 224, "224 pixels"
        return given


@pytest.mark.parametrize(
    ("make", "message", "cause"),
    [
        (lambda: Classifier(head(nn.Conv2d(1, 4, 1))), r"model: .* without a preprocess, got Sequential", RuntimeError),
        (lambda: Classifier(nn.Sequential(nn.Flatten(), nn.Linear(5, 2))), "mat1 and mat2 shapes", RuntimeError),
        (lambda: Classifier(Checking()), "got Checking, which raised AssertionError: 224 pixels$", AssertionError),
        (lambda: Classifier(nn.Flatten(), sixth), "preprocess: .* got sixth, which raised IndexError", IndexError),
    ],
)
def test_what_refuses_its_input_is_named(make: Callable[[], Classifier], message: str, cause: type[Exception]) -> None:
    for call in (lambda: make()(pixels()), lambda: make().respond(pixels())):
        with pytest.raises(RefusedInputError, match=message) as found:
            call()
        assert isinstance(found.value.__cause__, cause)
        assert "wanted one that takes [2, 3, 8, 8] in torch.float32" in str(found.value)


def test_the_input_after_the_preprocess_is_that_of_the_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).double()
    wanted = r"model: wanted one that takes \[2, 1, 8, 8\] in torch.float64, got Sequential, which raised RuntimeError"
    with pytest.raises(RefusedInputError, match=wanted):
        Classifier(model, preprocess=lambda given: given[:, :1])(pixels())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyError, NotADirectoryError])
def test_other_errors_stay_what_they_are(error: type[Exception]) -> None:
    def fail(_: Tensor) -> Tensor:
        raise error("no room")

    with pytest.raises(error):
        Classifier(fail)(pixels())


def test_a_classifier_inside_of_a_model_is_named_once() -> None:
    inner = Classifier(lambda given: given)
    with pytest.raises(ValueError, match=r"^model: wanted floating point logits \[2, C\]"):
        Classifier(lambda given: inner(given))(pixels())


def test_weights_without_shapes_are_refused_and_stay() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    classifier = Classifier(model, output="softmax")
    wanted = r"^model: wanted weights that have their shapes .*, got 1.weight of Sequential, which is not initialised"
    with dx.Explainer("tinyworld", classifier) as explainer:
        for call in (lambda: classifier(pixels()), classifier.fingerprint, lambda: explainer.explain(0)):
            with pytest.raises(ValueError, match=wanted):
                call()
    assert model[1].has_uninitialized_params()
    model(pixels())
    assert classifier(pixels()).shape == (2, 3) and classifier.fingerprint()


def test_the_command_line_says_it_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "mine_grey.py"
    file.write_text("from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(5, 2))\n")
    code, text = run("explain", f"{file}:make", "0", "--out", tmp_path / "out")
    assert code == 2 and "model: wanted one that takes [" in text and text.count("\n") == 1


def test_a_run_that_works_is_as_before() -> None:
    assert torch.equal(Classifier(tiny_classifier())(pixels() * 0), tiny_classifier()(pixels() * 0))
