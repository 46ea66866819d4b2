"""Modules behind functions of the user run in eval mode and stay as they are: targets, eyes, and other functions."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.methods.diffex.gradcam import scores
from diffexplain_fast.targets import Response
from tests.auditing import quick_audit
from tests.explaining import quick_explainer, quick_explanation


class Counting(nn.Module):
    """A module that notes its mode, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("calls", torch.zeros(()))
        self.modes: list[bool] = []

    def forward(self, pixels: Tensor) -> Tensor:
        """Return a number for each picture."""
        self.calls += 1
        self.modes.append(self.training)
        return self.norm(pixels).mean((1, 2, 3))


OWN = Counting()


def score(response: Response) -> Tensor:
    """Be a target."""
    return response.logits[:, 0] + OWN(response.pixels)


def look(pixels: Tensor) -> np.ndarray:
    """Be an eye that sees nothing."""
    OWN(pixels)
    return np.zeros((len(pixels), 4))


def marked(picture: Tensor) -> Tensor:
    """Be an intervention."""
    return (picture + 0.1 + 0 * OWN(picture[None])).clamp(0, 1)


def see(pixels: Tensor, texts: Sequence[str]) -> Tensor:
    """Say how well texts fit pictures."""
    return OWN(pixels)[:, None] + torch.arange(len(texts))


def embed(texts: Sequence[str]) -> Tensor:
    """Return embeddings of texts."""
    OWN(torch.rand(2, 3, 4, 4))
    return torch.eye(16)[: len(texts)]


@pytest.fixture
def own() -> Counting:
    """Return the module in training mode, as it was made."""
    OWN.__init__()  # type: ignore[misc]
    return OWN.train()


def assert_undisturbed(own: Counting) -> None:
    assert own.modes and not any(own.modes) and own.training and own.norm.training, "eval mode, and back"
    assert own.calls == 0 and torch.equal(own.norm.running_mean, torch.zeros(3)) and own.norm.num_batches_tracked == 0
    assert all(weight.requires_grad and weight.grad is None for weight in own.parameters())


def test_a_function_as_a_target_of_an_explanation(own: Counting) -> None:
    quick_explanation(target=score)
    assert_undisturbed(own)


def test_a_function_as_a_target_of_other_tools(own: Counting) -> None:
    with quick_explainer() as explainer:
        scores(explainer.classifier, score)(torch.rand(4, 3, 8, 8))
    assert_undisturbed(own)


@pytest.mark.parametrize(
    "options", [{"eye": look}, {"interventions": {"mark": marked}}, {"targets": ["boat", score]}], ids=" ".join
)
def test_functions_of_an_audit(own: Counting, tmp_path: Path, options: dict) -> None:
    quick_audit(tmp_path, **options)
    assert_undisturbed(own)


@pytest.mark.parametrize("options", [{"see": see, "each": 4}, {"embed": embed}], ids=" ".join)
def test_functions_of_candidates(own: Counting, options: dict) -> None:
    with quick_explainer() as explainer, suppress(ValueError):  # no word is left, because nothing is seen
        explainer.candidates(["boat", "desert"], **options)
    assert_undisturbed(own)
