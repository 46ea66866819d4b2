"""ResnetBlock2D over one tensor or a virtual concatenation of two, keeping its input and one activation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.engine.lean.levels import LEVELS, Level
from diffexplain_fast.engine.lean.norms import group_normed
from diffexplain_fast.engine.lean.owed import Owed, left_out, summed
from diffexplain_fast.engine.lean.reading import add_product, conv, known, linear, norm, silu
from diffexplain_fast.engine.lean.taken import unsupported
from diffexplain_fast.ops._autograd import Context, PairFunction, TensorFunction, first_order
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.conv2d_frozen import Convolution
from diffexplain_fast.ops.raw import RawOps


class Resnet:
    """A frozen residual block: out = (shortcut(u) + conv2(silu(norm2(conv1(silu(norm1(u))) + shift)))) / scale.

    Args:
        module: diffusers ResnetBlock2D.
        raw: raw functions to run.

    Raises:
        UnsupportedModelError: an option that is not the block above.
    """

    def __init__(self, module: Any, raw: RawOps) -> None:
        known(module, "ResnetBlock2D")
        plain = module.upsample is None and module.downsample is None and not module.skip_time_act
        # A VAE has no time embedding; there the option has another value for the same block.
        times = ("default",) if module.time_emb_proj is not None else ("default", "group")
        if not plain or module.time_embedding_norm not in times:
            raise unsupported(module, "a ResnetBlock2D with resampling or another time scale")
        silu(module.nonlinearity, "in a ResnetBlock2D")
        self.raw, self.scale = raw, float(module.output_scale_factor)
        self.norm1, self.norm2 = norm(module.norm1), norm(module.norm2)
        self.conv1, self.conv2 = conv(module.conv1), conv(module.conv2)
        self.time = None if module.time_emb_proj is None else linear(module.time_emb_proj)
        self.entering: Tensor | None = None
        self.offset: Tensor | None = None
        if self.conv1.bias is not None and raw.shares_shift:  # the second norm adds this bias with the time shift
            self.offset = self.conv1.bias[None]
        self.shortcut: Tensor | None = None
        if module.conv_shortcut is not None:
            self.shortcut, bias, _ = linear(module.conv_shortcut)
            if bias is not None:  # the convolution adds the shortcut's bias with its own
                self.conv2.bias = bias if self.conv2.bias is None else self.conv2.bias + bias

    def owe(self, owed: Owed, settles: bool) -> Owed:
        """Let the first norm add what the input owes, and return what the output owes; see ``owed``.

        Args:
            owed: by the input, or by the concatenation of both.
            settles: whether the output owes nothing, because no norm follows.
        """
        if owed is not None:
            self.entering = owed.to(self.norm1.weight.dtype)[None]
        around = owed if owed is None or self.shortcut is None else self.shortcut.to(owed.dtype) @ owed
        out = summed(left_out(self.conv2), around)
        if settles:
            self.conv2.bias = None if out is None else out.to(self.conv2.weight.dtype)
            return None
        return out if out is None else out / self.scale

    def shift(self, embedding: Tensor) -> Tensor | None:
        """Return what is added to every pixel before the second norm [N, C] for a time embedding [N, d].

        None in a VAE, which has no time embedding.
        """
        if self.time is None:
            return None
        shift = self.time(F.silu(embedding))
        return shift if self.offset is None else shift + self.offset

    def shortened(self, x: Tensor) -> Tensor:
        """Return the shortcut branch without its bias [N, K, H, W], for x [N, C, H, W]."""
        return x if self.shortcut is None else (x.permute(0, 2, 3, 1) @ self.shortcut.t()).permute(0, 3, 1, 2)

    def shortened_backward(self, dy: Tensor) -> Tensor:
        """Return the adjoint of ``shortened`` [N, C, H, W], for dy [N, K, H, W]."""
        return dy if self.shortcut is None else (dy.permute(0, 2, 3, 1) @ self.shortcut).permute(0, 3, 1, 2)

    def __call__(
        self, x: Tensor, skip: Tensor | None = None, shift: Tensor | None = None, level: Level = LEVELS["keep"]
    ) -> Tensor:
        """Return the block's output [N, K, H, W], channels-last.

        Args:
            x: [N, C1, H, W]; a channels-last tensor is not copied.
            skip: [N, C2, H, W] or None.
            shift: [1 or N, K] from ``shift``, None in a VAE.
            level: storage level.
        """
        if skip is not None and self.shortcut is None:
            x, skip = torch.cat([x, skip], 1), None
        return _Resnet.apply(channels_last(x), None if skip is None else channels_last(skip), shift, self, level)

    def forked(self, x: Tensor, shift: Tensor | None, level: Level) -> tuple[Tensor, Tensor]:
        """Return the same for one tensor, and the tensor itself for a skip connection.

        The first norm adds the gradient of the skip connection, which autograd would do in a launch of its own.
        """
        return _Forked.apply(channels_last(x), None, shift, self, level)


class _Resnet(TensorFunction):
    @staticmethod
    def forward(
        ctx: Context, x: Tensor, skip: Tensor | None, shift: Tensor | None, block: Resnet, level: Level
    ) -> Tensor:
        added = block.offset if shift is None else shift
        rows = None if added is None else block.raw.shift_rows(added, len(x))
        flop1, flop2 = _flop(block.conv1), _flop(block.conv2)
        h, mean1, rstd1 = level.kept(flop1, lambda inside: _first_half(block, x, skip, inside))
        out, mean2, rstd2 = level.kept(flop2, lambda inside: _second_half(block, x, skip, h, rows, inside))
        kept = (h,) if flop1 >= level.hidden else ()
        ctx.save_for_backward(x, skip, shift, rows, mean1, rstd1, mean2, rstd2, *kept)
        ctx.block = block
        return out

    @staticmethod
    @first_order("the sampler's residual block")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx, saved, dy, None), None, None


class _Forked(PairFunction):
    """The block's output, and its input for what else reads it; the arguments are those of ``_Resnet``."""

    @staticmethod
    def forward(
        ctx: Context, x: Tensor, skip: Tensor | None, shift: Tensor | None, block: Resnet, level: Level
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        return _Resnet.forward(ctx, x, skip, shift, block, level), x[:]  # ``view_as`` loses the layout of one image

    @staticmethod
    @first_order("the sampler's residual block")
    def backward(
        ctx: Context, saved: tuple[Tensor, ...], dy: Tensor | None, beside: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if dy is None:
            return beside, None, None, None, None
        return *_gradients(ctx, saved, dy, beside), None, None


def _gradients(
    ctx: Context, saved: tuple[Tensor, ...], dy: Tensor, beside: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, skip and shift; ``beside`` is another gradient of x, given only without a skip."""
    x, skip, shift, rows, mean1, rstd1, mean2, rstd2, *kept = saved
    block, dy = ctx.block, channels_last(dy)
    h = kept.pop() if kept else _hidden(block, x, skip, (mean1, rstd1))
    if block.scale != 1.0:
        dy = dy / block.scale
    norm1, norm2, raw, entering = block.norm1, block.norm2, block.raw, block.entering
    da = channels_last(block.conv2.backward(dy, h.shape))
    dh, _ = raw.group_norm_bwd(da, h, None, rows, norm2.weight, norm2.bias, mean2, rstd2, norm2.groups, True)
    dshift = None
    if shift is not None and ctx.needs_input_grad[2]:
        dshift = dh.sum((2, 3), dtype=mean1.dtype).sum_to_size(shift.shape).to(shift.dtype)
    width = x.shape[1] + (0 if skip is None else skip.shape[1])
    da = channels_last(block.conv1.backward(dh, torch.Size((len(x), width, *x.shape[2:]))))
    beside = None if beside is None else channels_last(beside)
    if block.shortcut is None:  # and then there is no second tensor
        dx = raw.group_norm_bwd_add(da, x, entering, norm1, mean1, rstd1, True, dy, beside)
        return dx, None, dshift
    if beside is not None:  # nor is there one here
        dx, dskip = raw.group_norm_bwd_add(da, x, entering, norm1, mean1, rstd1, True, beside), None
    else:
        arguments = (da, x, skip, entering, norm1.weight, norm1.bias, mean1, rstd1, norm1.groups, True)
        dx, dskip = raw.group_norm_bwd(*arguments)
    for half, weight in _halves(dx, None if skip is None else dskip, block.shortcut):
        add_product(_pixels(half), _pixels(dy), weight)
    return dx, None if skip is None else dskip, dshift


def _first_half(block: Resnet, x: Tensor, skip: Tensor | None, level: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Return h = conv1(silu(norm1(u))), and the statistics of the norm."""
    a, mean, rstd = group_normed(level, block.raw, x, skip, block.entering, block.norm1, True)
    return channels_last(block.conv1.forward(a, biased=block.offset is None)), mean, rstd


def _hidden(block: Resnet, x: Tensor, skip: Tensor | None, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """Return h of ``_first_half`` once more."""
    a, _ = block.raw.group_norm_again(x, skip, block.entering, block.norm1, statistics, True)
    return channels_last(block.conv1.forward(a, biased=block.offset is None))


def _second_half(
    block: Resnet, x: Tensor, skip: Tensor | None, h: Tensor, rows: Tensor | None, level: Level
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the block's output for h from ``_first_half``, and the statistics of the second norm."""
    a, mean, rstd = group_normed(level, block.raw, h, None, rows, block.norm2, True)
    out = channels_last(block.conv2.forward(a))
    if block.shortcut is None:
        out += x
    else:
        for half, weight in _halves(x, skip, block.shortcut):
            add_product(_pixels(out), _pixels(half), weight.t())
    if block.scale != 1.0:
        out /= block.scale
    return out, mean, rstd


def _flop(convolution: Convolution) -> int:
    """Return the FLOP of a convolution for each element of its result."""
    return 2 * convolution.weight[0].numel()


def _halves(x: Tensor, skip: Tensor | None, weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the tensors of a virtual concatenation, each with the columns of a weight [K, C] that it meets."""
    if skip is None:
        return [(x, weight)]
    seam = x.shape[1]
    return [(x, weight[:, :seam]), (skip, weight[:, seam:])]


def _pixels(x: Tensor) -> Tensor:
    """Return x [N, C, H, W], channels-last, as [N H W, C]: the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])
