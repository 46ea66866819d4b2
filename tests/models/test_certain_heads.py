"""Heads that are always certain: the answer of a squashing last step is a probability, even if it is 0 or 1."""

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassProbability
from tests.tiny import seeded

PIXELS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Squashed(nn.Module):
    """A small network whose logits, moved by ``bias``, go through a sigmoid or softmax."""

    def __init__(self, classes: int, bias: float, softmax: bool = False) -> None:
        super().__init__()
        self.body = seeded(lambda: nn.Conv2d(3, classes, 3))
        self.bias, self.softmax = bias, softmax

    def forward(self, pixels: Tensor) -> Tensor:
        """Return probabilities [B, C]."""
        logits = self.body(pixels).mean((2, 3))
        if self.softmax:
            return (logits + torch.tensor([self.bias, *[0.0] * (logits.shape[1] - 1)])).softmax(1)
        return (logits + self.bias).sigmoid()


@pytest.mark.filterwarnings("ignore:.*output")
@pytest.mark.parametrize(
    ("head", "output", "probability"),
    [
        (Squashed(1, 20.0), "independent probabilities", 1.0),
        (Squashed(1, -200.0), "independent probabilities", 0.0),
        (Squashed(3, 50.0), "independent probabilities", 1.0),
        (Squashed(3, -200.0), "independent probabilities", 0.0),
        (Squashed(3, 120.0, softmax=True), "probabilities", 1.0),
    ],
    ids=["yes", "no", "all", "none", "one"],
)
def test_a_certain_head_is_not_taken_for_logits(head: Squashed, output: str, probability: float) -> None:
    classifier = Classifier(head.eval())
    response = classifier.respond(PIXELS)
    assert classifier.output == output
    found = ClassProbability(0).bind(classifier)(response).exp()
    assert torch.allclose(found, torch.full_like(found, probability), atol=1e-3)
