"""Storage levels: which tensors a step of the trajectory keeps for its backward, and which it computes again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffexplain_fast.ops._autograd import Context, TensorFunction, first_order


@dataclass(frozen=True)
class Level:
    """A storage level of the denoiser, or of the decoder.

    Attributes:
        name: name of the level in a plan.
        keep_projection: keep the packed GEGLU projection; else its matrix product is computed again.
        keep_qkv: keep queries, keys and values; else their matrix products are computed again.
        keep_attention: keep attention's output and log-sum-exp; else attention is computed again, as q, k and v are.
        keep_blocks: keep tensors inside residual blocks and transformers; else only their inputs.
        keep_step: keep more than the sample; else the whole step is computed again.
        in_bands: run the last stage in bands of rows; only for a decoder.
        on_host: move the kept tensors to host memory until the backward.
    """

    name: str
    keep_projection: bool = True
    keep_qkv: bool = True
    keep_attention: bool = True
    keep_blocks: bool = True
    keep_step: bool = True
    in_bands: bool = False
    on_host: bool = False


LEVELS: dict[str, Level] = {
    level.name: level
    for level in (
        Level("keep"),
        Level("project", keep_projection=False),
        Level("lean", keep_projection=False, keep_qkv=False),
        Level("host", keep_projection=False, keep_qkv=False, on_host=True),
        Level("attend", keep_projection=False, keep_qkv=False, keep_attention=False),
        Level("block", keep_projection=False, keep_qkv=False, keep_blocks=False),
        Level("bands", keep_blocks=False, in_bands=True),
        Level("step", keep_projection=False, keep_qkv=False, keep_step=False),
    )
}
"""From the most kept to the least: L3, L4, L5, L5 in host memory, L6, block, bands, and one sample per step."""


def run(
    level: Level, function: Callable[..., Tensor], *tensors: Tensor | None, trained: Sequence[Tensor] = ()
) -> Tensor:
    """Call a function of tensors, keeping its inner tensors or only its arguments.

    Args:
        level: says which of the two.
        function: function to call.
        *tensors: arguments of the function.
        trained: parameters that the function reads beside its arguments and that get a gradient.
    """
    if level.keep_blocks or not torch.is_grad_enabled():
        return function(*tensors)
    return _Recomputed.apply(function, len(tensors), *tensors, *trained)


class _Recomputed(TensorFunction):
    """A function that keeps its arguments and runs again in the backward; nothing in it is random."""

    @staticmethod
    def forward(ctx: Context, function: Callable[..., Tensor], count: int, *tensors: Tensor | None) -> Tensor:
        ctx.function, ctx.count, ctx.trained = function, count, tensors[count:]
        ctx.save_for_backward(*tensors)
        return function(*tensors[:count])

    @staticmethod
    @first_order("the sampler's block")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        wanted, count = ctx.needs_input_grad[2:], ctx.count
        leaves = [
            None if tensor is None else tensor.detach().requires_grad_(want)
            for tensor, want in zip(saved[:count], wanted[:count], strict=True)
        ]
        with torch.enable_grad():
            out = ctx.function(*leaves)
        every = (*leaves, *ctx.trained)  # trained parameters are no copies, because the function reads the originals
        inputs = [leaf for leaf, want in zip(every, wanted, strict=True) if want and leaf is not None]
        grads = iter(torch.autograd.grad(out, inputs, dy))
        return None, None, *(next(grads) if want else None for want in wanted)
