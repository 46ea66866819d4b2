"""Every op under torch's ways to differentiate: checkpointing, two losses, and transforms that are refused by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from diffexplain_fast import ops

Function = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SCALE, OFFSET, KERNEL = normal(8), normal(8, seed=1), normal(8, 8, 3, 3)
PACKED = ops.pack_subpixel(KERNEL, OFFSET)
IMAGE, ROWS, HEADS = normal(2, 8, 4, 4), normal(5, 8), normal(2, 5, 2, 8)

OWN: dict[str, tuple[Function, Tensor]] = {
    "group_norm_silu": (
        lambda x: ops.group_norm_silu(x[:, :4], SCALE, OFFSET, 2, skip=x[:, 4:], shift=x.mean((2, 3))),
        IMAGE,
    ),
    "layer_norm": (lambda x: ops.layer_norm(x, SCALE, OFFSET), ROWS),
    "geglu": (ops.geglu, ROWS),
    "attention": (lambda x: ops.attention(x, x + 1, 2 * x), HEADS),
    "guided_step": (
        lambda x: torch.cat(ops.guided_step(x, torch.cat([x, 2 * x]), SCALE, before=x + 1)),
        IMAGE,
    ),
    "conv2d_frozen": (lambda x: ops.conv2d_frozen(x, KERNEL, OFFSET, 1, 1), IMAGE),
    "upsample_conv": (lambda x: ops.upsample_conv(x, PACKED), IMAGE),
}
"""Ops with a backward of their own: a function of one tensor, and its argument."""
PLAIN: dict[str, tuple[Function, Tensor]] = {
    "linear_frozen": (lambda x: ops.linear_frozen(x, KERNEL[:, :, 0, 0], OFFSET), ROWS),
    "resize": (lambda x: ops.resize(x, (3, 7)), IMAGE),
    "resize_normalize": (lambda x: ops.resize_normalize(x, (5, 3), [0.5] * 8, [0.25] * 8), IMAGE),
}
"""Ops that only call torch."""


def pull(y: Tensor, x: Tensor, retain: bool = False) -> Tensor:
    (gradient,) = torch.autograd.grad(y.square().sum(), x, retain_graph=retain)
    return gradient


@pytest.mark.parametrize("name", [*OWN, *PLAIN])
def test_checkpointing_and_two_losses_give_the_same_gradient(name: str) -> None:
    function, x = (OWN | PLAIN)[name]
    x = x.clone().requires_grad_()
    wanted = pull(function(x), x)
    whole = function(x)
    again = checkpoint(function, x, use_reentrant=False)
    inside = checkpoint(lambda x: function(x) * function(x).detach(), x, use_reentrant=False)
    outer = checkpoint(lambda x: checkpoint(function, x, use_reentrant=False), x, use_reentrant=False)
    for y in (whole, again, outer):
        assert torch.equal(pull(y, x, retain=True), wanted) and torch.equal(pull(y, x), wanted)
    assert torch.allclose(2 * torch.autograd.grad(inside.sum(), x)[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_a_second_derivative_is_refused_by_the_ops_name(name: str, checkpointed: bool) -> None:
    function, x = OWN[name]
    x = x.clone().requires_grad_()
    y = checkpoint(function, x, use_reentrant=False) if checkpointed else function(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"^{name} has no second derivative"):
        torch.autograd.grad(gradient.sum() + x.sum(), x)


def dual(function: Function, x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, x))).tangent + 0


WAYS: dict[str, Callable[[Function, Tensor], object]] = {
    "grad": lambda function, x: torch.func.grad(lambda x: function(x).sum())(x),
    "vjp": lambda function, x: torch.func.vjp(function, x),
    "jvp": lambda function, x: torch.func.jvp(function, (x,), (x,)),
    "vmap": lambda function, x: torch.func.vmap(function)(x[None]),
    "jacrev": lambda function, x: torch.func.jacrev(function)(x),
    "forward mode": dual,
    "vectorize": lambda function, x: torch.autograd.functional.jacobian(function, x, vectorize=True),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch's forward mode
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OWN)
def test_transforms_are_refused_by_the_ops_name(name: str, way: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{name}: wanted torch.autograd.grad or Tensor.backward.*, got a "):
        WAYS[way](*OWN[name])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch's forward mode
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PLAIN)
def test_ops_that_only_call_torch_can_be_transformed(name: str, way: str) -> None:
    WAYS[way](*PLAIN[name])


def test_a_jacobian_row_by_row_is_right() -> None:
    function, x = OWN["geglu"]
    rows = torch.autograd.functional.jacobian(function, x)
    value, gate = (part.requires_grad_() for part in x.clone().chunk(2, -1))
    plain = torch.autograd.functional.jacobian(lambda a, b: a * torch.nn.functional.gelu(b), (value, gate))
    assert torch.allclose(rows, torch.cat(plain, -1), atol=1e-6)
