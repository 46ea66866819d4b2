"""Heads that are always certain: the answer of a squashing last step is a probability, even if it is 0 or 1."""

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassProbability
from diffexplain_fast.targets.outputs import as_logits
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_probability_that_was_rounded_to_0_or_1_is_the_nearest_number_of_its_dtype(dtype: torch.dtype) -> None:
    sure = as_logits(torch.tensor([[0.0, 1.0]], dtype=dtype), "independent probabilities")[0].double()
    below = torch.nextafter(torch.tensor(1.0, dtype=dtype), torch.tensor(0.0, dtype=dtype)).double()
    assert torch.allclose(sure[1], -(1 - below).log(), rtol=1e-6)
    least = {torch.float16: 2.0**-24, torch.float64: 2.0**-1022}.get(dtype, 2.0**-126)
    assert torch.allclose(sure[0].exp(), torch.tensor(least).double(), rtol=1e-4)
    small = torch.tensor([[2.0**-20, 0.5]], dtype=dtype)
    assert torch.allclose(as_logits(small, "probabilities")[0, 0].exp().double(), small[0, 0].double(), rtol=1e-4)
