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


class Deciding(nn.Module):
    """An eye without weights, or with those of a layer."""

    def __init__(self, limit: object, layer: nn.Module | None = None) -> None:
        super().__init__()
        self._limit, self.layer = limit, layer

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels > self._limit


class Counting(Deciding):
    """An eye that counts its calls."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.calls = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(pixels)


def made(limit: float, other: bool = False) -> nn.Module:
    class Made(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels > limit

    class Same(nn.Module):
        @torch.no_grad()
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels > 0.3

    class Other(nn.Module):
        @torch.no_grad()
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels > 0.7

    Other.__qualname__ = Same.__qualname__
    return Made() if limit else Other() if other else Same()


def test_plain_attributes_and_code_of_modules_tell_eyes_apart() -> None:
    layer = nn.Linear(1, 1)
    limits = (0.3, 0.7, "0.3", [0, 1, 2], (2, 0, 1), {"sea": 1})
    found = [fingerprint_of(Deciding(limit, each)) for limit in limits for each in (None, layer, nn.Linear(1, 1))]
    assert len({*found}) == len(found)
    assert fingerprint_of(Deciding([0.5], layer)) == fingerprint_of(Deciding([0.5], layer))
    assert fingerprint_of(made(0)) == fingerprint_of(made(0)) != fingerprint_of(made(0, other=True))


def test_a_module_that_holds_more_than_plain_values_is_one_object_of_the_session() -> None:
    def hooked() -> nn.Module:
        eye = Deciding(0.5, nn.Linear(1, 1))
        eye.layer.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
        return eye

    def unstored() -> nn.Module:
        eye = Deciding(0.5)
        eye.register_buffer("table", torch.zeros(1), persistent=False)
        return eye

    eyes = [lambda: Deciding(len), lambda: Deciding(torch.ones(1)), Counting, hooked, unstored, lambda: made(0.3)]
    for make in eyes:
        eye = make()
        before = fingerprint_of(eye)
        eye(torch.zeros(1)) if isinstance(eye, Counting) else None
        assert before is not None and before == fingerprint_of(eye) != fingerprint_of(make())
