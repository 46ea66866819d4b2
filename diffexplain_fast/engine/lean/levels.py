"""Storage levels: which tensors a step of the trajectory keeps for its backward, and which it computes again."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from diffexplain_fast.engine.lean.shelf import Shelf
from diffexplain_fast.ops._autograd import Context, first_order


@dataclass(frozen=True)
class Level:
    """A storage level of the denoiser, or of the decoder.

    Attributes:
        name: name of the level in a plan.
        keep_products: keep the packed GEGLU projection, queries, keys and values; else they are computed again.
        products: FLOP for each element from which these are kept nevertheless.
        keep_attention: keep attention's output and log-sum-exp; else attention is computed again, as q, k and v are.
        keep_blocks: keep tensors inside residual blocks and transformers; else only their inputs.
        keep_step: keep more than the sample; else the whole step is computed again.
        apart: run one image after the other, each computed again as a whole; only for a decoder.
        in_bands: run the last stage in bands of rows; only for a decoder.
        on_host: move the kept tensors to host memory until the backward.
        hidden: FLOP for each element from which the first convolution's result in a residual block is kept.
        costly: FLOP for each element from which results are kept although the step is computed again.
        shelf: where a step that is computed again keeps them; None where it is not, or where nothing is kept.
        text_apart: whether the first half of all rows, the unconditional ones, needs no gradient of its text, which may
            then be zeros.
    """

    name: str
    keep_products: bool = True
    products: float = math.inf
    keep_attention: bool = True
    keep_blocks: bool = True
    keep_step: bool = True
    apart: bool = False
    in_bands: bool = False
    on_host: bool = False
    hidden: float = 0.0
    costly: float = math.inf
    shelf: Shelf | None = None
    text_apart: bool = False

    def keeps_product(self, channels: int) -> bool:
        """Whether the product of an input with so many channels is kept: each channel is 2 FLOP for each element."""
        return self.keep_products or 2 * channels >= self.products

    def on(self, shelf: Shelf | None) -> "Level":
        """Return this level with a shelf."""
        return replace(self, shelf=shelf)

    def asking(self, text_apart: bool) -> "Level":
        """Return this level, with ``text_apart`` as given."""
        return self if text_apart == self.text_apart else replace(self, text_apart=text_apart)

    def kept(self, flop: float, compute: Callable[["Level"], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the results of a computation, from the shelf if they were costly and the step is computed again.

        Args:
            flop: multiplications and additions for each element of the results.
            compute: the computation at a level, which does not need a graph of its own. Inside of it, nothing lies on
                the shelf if its results do.
        """
        if self.shelf is None or flop < self.costly:
            return compute(self)
        return self.shelf.results(lambda: compute(self.on(None)))

    def remembered(self, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the results of a computation, from the shelf if there is one, because they are small.

        Args:
            compute: the computation, which does not need a graph of its own.
        """
        return compute() if self.shelf is None else self.shelf.results(compute)


LEVELS: dict[str, Level] = {
    level.name: level
    for level in (
        Level("keep"),
        Level("narrow", keep_products=False, products=2000.0),
        Level("lean", keep_products=False),
        Level("host", keep_products=False, on_host=True),
        Level("attend", keep_products=False, keep_attention=False),
        Level("slim", hidden=5000.0),
        Level("apart", hidden=5000.0, keep_blocks=False, apart=True),
        Level("block", keep_products=False, keep_blocks=False),
        Level("bands", keep_blocks=False, in_bands=True),
        Level("costly", keep_step=False, costly=5000.0),
        Level("costlier", keep_step=False, costly=8000.0),
        Level("costliest", keep_step=False, costly=12000.0),
        Level("tight", keep_products=False, keep_step=False, costly=12000.0),
        Level("again", keep_step=False),
        Level("step", keep_products=False, keep_step=False),
    )
}
"""From the most kept to the least.

"narrow" computes products of few channels again, "lean" all of them, "attend" attention too. Of a decoder, "slim"
computes the first convolutions of blocks of large images again, "apart" does so for one image after the other, of which
it keeps the latents; "block" keeps the inputs of blocks, "bands" those of a decoder whose last stage runs in bands.

At the other levels a step is computed again as a whole from its sample: "costly", "costlier" and "costliest" keep
results that took many FLOP for their bytes; "again" keeps nothing but the statistics of norms, as all of them do. While
the step's own backward runs, these four keep everything, except products that it needs only for results that were kept;
"tight", which is else like "costliest", and "step", which is else like "again", keep no products even then. At all of
these the denoiser's output for unconditional rows that get no gradient, one latent for each picture, is kept.
"""


_Some = TypeVar("_Some", Tensor, tuple[Tensor, Tensor])


def run(level: Level, function: Callable[..., _Some], *tensors: Tensor | None, trained: Sequence[Tensor] = ()) -> _Some:
    """Call a function of tensors, keeping its inner tensors or only its arguments.

    Args:
        level: says which of the two.
        function: function to call, with one result or two.
        *tensors: arguments of the function.
        trained: parameters that the function reads beside its arguments and that get a gradient.
    """
    if level.keep_blocks or not torch.is_grad_enabled():
        return function(*tensors)
    return _Recomputed.apply(function, len(tensors), *tensors, *trained)


class _Recomputed(torch.autograd.Function):
    """A function that keeps its arguments and runs again in the backward; nothing in it is random."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, function: Callable[..., _Some], *rest: object) -> _Some: ...

    @staticmethod
    def forward(ctx: Context, function: Callable[..., _Some], count: int, *tensors: Tensor | None) -> _Some:
        ctx.function, ctx.count, ctx.trained = function, count, tensors[count:]
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return function(*tensors[:count])

    @staticmethod
    @first_order("the sampler's block")
    def backward(ctx: Context, saved: tuple[Tensor, ...], *dys: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted, count = ctx.needs_input_grad[2:], ctx.count
        leaves = [
            None if tensor is None else tensor.detach().requires_grad_(want)
            for tensor, want in zip(saved[:count], wanted[:count], strict=True)
        ]
        with torch.enable_grad():
            results = ctx.function(*leaves)
        outs = (results,) if isinstance(results, Tensor) else results
        pairs = [(out, dy) for out, dy in zip(outs, dys, strict=True) if dy is not None]
        every = (*leaves, *ctx.trained)  # trained parameters are no copies, because the function reads the originals
        inputs = [leaf for leaf, want in zip(every, wanted, strict=True) if want and leaf is not None]
        grads = iter(torch.autograd.grad([out for out, _ in pairs], inputs, [dy for _, dy in pairs]))
        return None, None, *(next(grads) if want else None for want in wanted)
