"""What tells the eyes of a user from each other."""

import torch
from torch import Tensor, nn

from diffexplain_fast.evidence.eyes import fingerprint_of


class Seeing(nn.Module):
    """An eye with weights."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels

    def look(self, pixels: Tensor) -> Tensor:
        """Return the pixels."""
        return pixels


def test_eyes_are_told_apart_by_weights_or_as_objects() -> None:
    one, same, other = Seeing(1.0), Seeing(1.0), Seeing(2.0)
    assert fingerprint_of(one) == fingerprint_of(same) != fingerprint_of(other)
    assert (
        fingerprint_of(one.look) == fingerprint_of(same.look) not in (fingerprint_of(one), fingerprint_of(other.look))
    )
    functions = [lambda pixels: pixels, lambda pixels: pixels]
    first, second = map(fingerprint_of, functions)
    assert first == fingerprint_of(functions[0]) != second
    assert fingerprint_of([]) is None
