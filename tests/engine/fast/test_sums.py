"""Sums of gradients over the steps: those of a plain loop, in two launches a step, and no gradient is written to."""

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.engine.fast.sums import Sums
from diffexplain_fast.prediction.launches import trace


def leaves_and_grads(dtypes: list[torch.dtype], device: str = "cpu") -> tuple[list[Tensor], list[dict[int, Tensor]]]:
    """Return leaves of several sizes, and the gradients of two steps by leaf."""
    generator = torch.Generator().manual_seed(3)

    def draw(size: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(size, generator=generator).to(device, dtype)

    leaves = [torch.zeros(2 + i, dtype=dtype, device=device, requires_grad=True) for i, dtype in enumerate(dtypes)]
    return leaves, [{id(leaf): draw(len(leaf), leaf.dtype) for leaf in leaves} for _ in range(2)]


@pytest.mark.parametrize("scale", [1.0, torch.tensor(8.0)], ids=["unscaled", "scaled"])
@pytest.mark.parametrize(
    "dtypes",
    [[torch.float32] * 2, [torch.bfloat16] * 3, [torch.float16, torch.float32, torch.bfloat16, torch.float64]],
    ids=["float32", "bfloat16", "mixed"],
)
def test_sums_are_those_of_a_loop_in_float32(dtypes: list[torch.dtype], scale: Tensor | float) -> None:
    leaves, steps = leaves_and_grads(dtypes)
    before = [{key: grad.clone() for key, grad in step.items()} for step in steps]
    sums = Sums(leaves)
    for step in steps:
        sums.add(step, scale)
    for leaf, total in zip(leaves, sums.totals(), strict=True):
        assert total is not None and total.dtype == leaf.dtype
        wide = torch.promote_types(leaf.dtype, torch.float32)
        wanted = sum(step[id(leaf)].to(wide) / scale for step in steps)
        assert torch.equal(total, torch.as_tensor(wanted).to(leaf.dtype))
    for step, same in zip(steps, before, strict=True):
        assert all(torch.equal(step[key], grad) for key, grad in same.items())


def test_a_tensor_that_no_step_reaches_has_no_gradient() -> None:
    text, reached, never = torch.zeros(2, requires_grad=True), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4))
    sums = Sums([text, reached, never, torch.zeros(5)])
    sums.add({id(reached): torch.full((3,), 2.0), id(never): None}, 1.0)
    first, second, *none = sums.totals()
    assert first is None and second is not None and none == [None, None]
    assert torch.equal(second, torch.full((3,), 2.0))


@pytest.mark.parametrize(("dtype", "launches"), [(torch.bfloat16, 2), (torch.float32, 1)])
def test_the_launches_of_a_step_do_not_grow_with_the_number_of_leaves(dtype: torch.dtype, launches: int) -> None:
    leaves, steps = leaves_and_grads([dtype] * 7, "meta")
    sums = Sums(leaves)
    assert len(trace(lambda: sums.add(steps[0], 1.0))) == launches
