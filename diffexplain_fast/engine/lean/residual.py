"""The path around a layer: the layer's last product adds to a copy of the layer's input.

On a GPU the sum of a layer's result and its input would be a launch of its own. A product can add to what is there
already, but the input itself is kept for the backward. So the norm at the layer's beginning, which reads the input
anyway, writes a copy of it, to which the bias of the product is added. With other kernels than Triton's the sum is made
at the end. In the backward the norm adds the gradient of the path around.
"""

from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.engine.lean.adapters import Thin, adapted
from diffexplain_fast.engine.lean.reading import Linear, Norm, add_product
from diffexplain_fast.ops._autograd import Context, TensorFunction, first_order
from diffexplain_fast.ops.linear_frozen import PackedLinear
from diffexplain_fast.ops.raw import RawOps


class End(NamedTuple):
    """The last product of a layer, whose result is added to the layer's input.

    Attributes:
        layer: the frozen projection.
        thin: adapters that are trained beside it.
        offset: bias of the projection, zeros if it has none.
    """

    layer: Linear | PackedLinear
    thin: tuple[Thin, ...]
    offset: Tensor

    def added(self, h: Tensor, x: Tensor, copy: Tensor | None) -> Tensor:
        """Return the layer's output x + h W^T + b [B, N, C].

        Args:
            h: input of the projection [B N, D].
            x: input of the layer [B, N, C].
            copy: from ``entered``; it is written over.
        """
        if copy is None:
            return adapted(self.layer.forward(h), h, self.thin).view(x.shape).add_(x)
        add_product(copy, h, self.layer.weight.t())
        return adapted(copy, h, self.thin).view(x.shape)


def end_of(layer: Linear | PackedLinear, thin: tuple[Thin, ...]) -> End:
    """Return the end of a layer."""
    return End(layer, thin, layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias)


def entered(x: Tensor, raw: RawOps, norm: Norm, end: End) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the norm of x [B, N, C], mean and rstd of each row, and the copy [B N, C] for the layer's end or None.

    Args:
        x: input of the layer.
        raw: raw functions to run.
        norm: the layer norm.
        end: of the layer.
    """
    if not raw.adds_in_products:
        return *normalise(x, raw, norm), None
    y, mean, rstd, copy = raw.layer_norm_fwd_copy(x.flatten(0, 1), norm.weight, norm.bias, norm.eps, end.offset)
    return y.view(x.shape), mean, rstd, copy


class Leave(TensorFunction):
    """around + h W^T, written over ``around`` [B, C, H, W], channels-last: the end of a transformer."""

    @staticmethod
    def forward(ctx: Context, h: Tensor, around: Tensor, leave: Linear) -> Tensor:
        ctx.leave = leave
        ctx.mark_dirty(around)
        add_product(around.permute(0, 2, 3, 1).view(-1, around.shape[1]), h.flatten(0, 1), leave.weight.t())
        return around

    @staticmethod
    @first_order("the sampler's transformer")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.leave.backward(dy.permute(0, 2, 3, 1).flatten(1, 2)), dy, None


def normalise(x: Tensor, raw: RawOps, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm of x [B, N, C], and mean and rstd of each row."""
    y, mean, rstd = raw.layer_norm_fwd(x.flatten(0, 1), norm.weight, norm.bias, norm.eps)
    return y.view(x.shape), mean, rstd


def normalise_backward(
    dn: Tensor, x: Tensor, raw: RawOps, norm: Norm, statistics: tuple[Tensor, Tensor], around: Tensor
) -> Tensor:
    """Return the gradient of x through a norm, dn behind it, plus that of the path around it.

    Args:
        dn: gradient of the norm's result.
        x: input of the norm [B, N, C].
        raw: raw functions to run.
        norm: the layer norm.
        statistics: mean and rstd of each row.
        around: gradient of the path around the layer.
    """
    rows, more = (grad.reshape(-1, x.shape[-1]).contiguous() for grad in (dn, around))
    return raw.layer_norm_bwd_add(rows, x.flatten(0, 1), norm.weight, *statistics, more).reshape(x.shape)
