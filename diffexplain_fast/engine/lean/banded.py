"""The last stage of a VAE decoder in bands of rows: upsampling, residual blocks, the image; for little memory.

Convolutions of a band need a row more on either side. The statistics of a norm and the sums of its adjoint are those of
the whole image, so each is a pass over all bands before the one that uses it. The upsampled input, the largest tensor
of the decoder, never exists; residual blocks write their adjoints where what they no longer need was.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.engine.lean.reading import Norm
from diffexplain_fast.engine.lean.resnet import Resnet
from diffexplain_fast.ops._autograd import Context, TensorFunction, first_order
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.conv2d_frozen import Convolution
from diffexplain_fast.ops.upsample_conv import SubpixelWeight, upsample_conv

_BAND = 2**20
"""Elements of the largest tensor of a band, about."""

Rows = Callable[[int, int], Tensor]
"""Rows [first, last) of an image [N, C, H, W] that need not exist as a whole."""


class Statistics(NamedTuple):
    """Mean and 1 / sqrt(variance + eps) per channel [N, C, 1, 1], in float32 or better."""

    mean: Tensor
    rstd: Tensor


class Stage(NamedTuple):
    """The last stage.

    Attributes:
        up: upsampling convolution before it, None in a decoder of one stage.
        resnets: its residual blocks, at least one.
        norm: GroupNorm before the last convolution.
        last: 3 x 3, to pixels.
        impl: of the interleaving.
    """

    up: SubpixelWeight | None
    resnets: Sequence[Resnet]
    norm: Norm
    last: Convolution
    impl: str

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the last convolution gives for the stage before's output x [N, C, h, w]."""
        return _Stage.apply(channels_last(x), self)

    def rows(self, x: Tensor) -> tuple[Rows, int]:
        """Return the rows of the first residual block's input, and their number."""
        if self.up is None:
            return _of(x), x.shape[2]
        packed = self.up

        def upsampled(first: int, last: int) -> Tensor:
            low, high = max(first // 2 - 1, 0), min((last + 1) // 2 + 1, x.shape[2])
            band = upsample_conv(channels_last(x[:, :, low:high]), packed, impl=self.impl)
            return channels_last(band[:, :, first - 2 * low : last - 2 * low])

        return upsampled, 2 * x.shape[2]

    def input_adjoint(self, x: Tensor, adjoint: Rows, height: int) -> Tensor:
        """Return the adjoint of x from that of the first residual block's input."""
        if self.up is None:
            return adjoint(0, height)
        dx = torch.empty_like(x)
        for first, last in _bands(4 * x[:, :, 0].numel(), x.shape[2]):
            low, high = max(2 * first - 1, 0), min(2 * last + 1, height)
            # One more line on either side, of zeros beyond the image: the blocks begin a line before it.
            lines = (1, 1, low - 2 * first + 1, 2 * last + 1 - high)
            dx[:, :, first:last] = self.up.adjoint(F.pad(adjoint(low, high), lines), self.impl)
        return dx


class _Stage(TensorFunction):
    @staticmethod
    def forward(ctx: Context, x: Tensor, stage: Stage) -> Tensor:
        rows, height = stage.rows(x)
        kept, statistics = [], []
        for number, resnet in enumerate(stage.resnets):
            out, *found = _forward(resnet, rows, height)
            statistics.append(found)
            if number or len(stage.resnets) == 1:
                kept.append(out)  # the first block's output is computed again
            rows = _of(out)
        about = _statistics(rows, height, stage.norm)
        ctx.save_for_backward(x)
        # Its own tensors, overwritten and let go of one by one: saved ones would live to the end.
        ctx.stage, ctx.kept, ctx.statistics, ctx.about = stage, kept, statistics, about
        return _filled(stage.last, lambda a, b: _activated(rows(a, b), stage.norm, about), height)

    @staticmethod
    @first_order("the sampler's last decoder stage")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dimage: Tensor) -> tuple[Tensor | None, ...]:
        (x,), stage, kept = saved, ctx.stage, ctx.kept
        rows, height = stage.rows(x)
        if not kept:  # a backward before has used them up
            kept = _outputs(stage, rows, height, ctx.statistics)
        dy = kept.pop()
        _overwrite(dy, _adjoint(_of(dy), _transposed(stage.last, _of(dimage)), height, stage.norm, ctx.about))
        for number in reversed(range(1, len(stage.resnets))):
            before = kept.pop() if kept else _forward(stage.resnets[0], rows, height, ctx.statistics[0])[0]
            _overwrite(dy, _backward(stage.resnets[number], _of(before), dy, height, ctx.statistics[number]))
            del before
        kept.clear()
        return stage.input_adjoint(x, _backward(stage.resnets[0], rows, dy, height, ctx.statistics[0]), height), None


def _outputs(stage: Stage, rows: Rows, height: int, statistics: Sequence[Sequence[Statistics]]) -> list[Tensor]:
    """Return the blocks' outputs that a backward uses, all but the first, from known statistics."""
    made = []
    for number, resnet in enumerate(stage.resnets):
        out, *_ = _forward(resnet, rows, height, statistics[number])
        if number or len(stage.resnets) == 1:
            made.append(out)
        rows = _of(out)
    return made


def _forward(
    resnet: Resnet, rows: Rows, height: int, known: Sequence[Statistics] = ()
) -> tuple[Tensor, Statistics, Statistics]:
    """Return a residual block's output, and the statistics of its norms unless they are known."""
    one = known[0] if known else _statistics(rows, height, resnet.norm1)
    h = _hidden(resnet, rows, height, one)
    two = known[1] if known else _statistics(_of(h), height, resnet.norm2)

    out = _filled(resnet.conv2, lambda a, b: _activated(h[:, :, a:b], resnet.norm2, two), height)
    for first, last in _bands(resnet.conv1.weight.shape[1] * out[:, 0, 0].numel(), height):
        out[:, :, first:last] += resnet.shortened(rows(first, last))
    return (out if resnet.scale == 1.0 else out.div_(resnet.scale)), one, two


def _hidden(resnet: Resnet, rows: Rows, height: int, one: Statistics) -> Tensor:
    return _filled(resnet.conv1, lambda a, b: _activated(rows(a, b), resnet.norm1, one), height)


def _backward(resnet: Resnet, rows: Rows, dy: Tensor, height: int, known: Sequence[Statistics]) -> Rows:
    """Return the rows of the adjoint of a residual block's input; dy may be overwritten by rows that were read."""
    one, two = known
    scaled = _of(dy) if resnet.scale == 1.0 else lambda a, b: dy[:, :, a:b] / resnet.scale
    h = _hidden(resnet, rows, height, one)
    _overwrite(h, _adjoint(_of(h), _transposed(resnet.conv2, scaled), height, resnet.norm2, two))
    through = _adjoint(rows, _transposed(resnet.conv1, _of(h)), height, resnet.norm1, one)
    return lambda a, b: through(a, b) + resnet.shortened_backward(scaled(a, b))


def _transposed(convolution: Convolution, dy: Rows) -> Rows:
    """Return rows of the adjoint of a convolution's input, a margin included that the caller cuts off."""

    def rows(first: int, last: int) -> Tensor:
        given = channels_last(dy(first, last))
        shape = (len(given), convolution.weight.shape[1], *given.shape[2:])
        return convolution.backward(given, torch.Size(shape))

    return rows


def _overwrite(into: Tensor, rows: Rows) -> None:
    """Write rows over an image, which they may be computed from: each from its own row."""
    height = into.shape[2]
    for first, last in _bands(into[:, :, 0].numel(), height):
        into[:, :, first:last] = rows(first, last)


def _adjoint(rows: Rows, da: Rows, height: int, norm: Norm, statistics: Statistics) -> Rows:
    """Return the rows of the adjoint of silu(norm(x)): rstd (g - mean(g) - n mean(g n)), g = da silu' weight."""
    mean, rstd = statistics
    weight, bias = _by_channel(norm, mean.dtype)

    def parts(first: int, last: int) -> tuple[Tensor, Tensor]:
        n = (rows(first, last).to(mean.dtype) - mean).mul_(rstd)
        a = n * weight + bias
        sigmoid = torch.sigmoid(a)
        slope = a.mul_(1 - sigmoid).add_(1).mul_(sigmoid)
        return _margined(da, first, last, height).to(mean.dtype) * slope * weight, n

    sums = [torch.zeros_like(mean), torch.zeros_like(mean)]
    wide = rows(0, 1)
    for first, last in _bands(wide.numel(), height):
        g, n = parts(first, last)
        sums[0] += g.sum((2, 3), keepdim=True)
        sums[1] += g.mul_(n).sum((2, 3), keepdim=True)
    pixels = height * wide.shape[3]
    flat, sloped = (_grouped(part, norm.groups) / pixels for part in sums)

    def adjoint(first: int, last: int) -> Tensor:
        g, n = parts(first, last)
        return channels_last((g.sub_(flat).sub_(n.mul_(sloped)).mul_(rstd)).to(wide.dtype))

    return adjoint


def _activated(x: Tensor, norm: Norm, statistics: Statistics) -> Tensor:
    """Return silu(norm(x)) with known statistics."""
    mean, rstd = statistics
    weight, bias = _by_channel(norm, mean.dtype)
    n = (x.to(mean.dtype) - mean).mul_(rstd * weight).add_(bias)
    return channels_last(F.silu(n, inplace=True).to(x.dtype))


def _statistics(rows: Rows, height: int, norm: Norm) -> Statistics:
    """Return the statistics of groups of channels over the whole image, from those of its bands.

    Source: Chan, Golub, LeVeque, Updating formulae (1979), eq. 2.1.
    """
    wide, found = rows(0, 1), []
    dtype = torch.promote_types(wide.dtype, torch.float32)
    channels = wide.shape[1]
    for first, last in _bands(wide.numel(), height):
        band = torch.unflatten(rows(first, last).to(dtype), 1, (norm.groups, -1))
        variance, mean = torch.var_mean(band, (2, 3, 4), correction=0)
        found.append((band[0, 0].numel(), mean, variance))
    total = sum(count for count, _, _ in found)
    mean = torch.stack([count / total * each for count, each, _ in found]).sum(0)
    spread = [count / total * (variance + (each - mean) ** 2) for count, each, variance in found]
    rstd = torch.rsqrt(torch.stack(spread).sum(0) + norm.eps)
    rstd = rstd.masked_fill(rstd == 0, torch.nan)  # squares beyond the range would quietly leave only the bias
    repeats = channels // norm.groups
    return Statistics(*(part.repeat_interleave(repeats, 1)[:, :, None, None] for part in (mean, rstd)))


def _grouped(sums: Tensor, groups: int) -> Tensor:
    """Return the mean over each group's channels of [N, C, 1, 1], for every channel."""
    by_group = torch.unflatten(sums, 1, (groups, -1))
    return by_group.mean(2, keepdim=True).expand_as(by_group).flatten(1, 2)


def _by_channel(norm: Norm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return norm.weight.to(dtype)[:, None, None], norm.bias.to(dtype)[:, None, None]


def _filled(convolution: Convolution, given: Rows, height: int) -> Tensor:
    """Return the image of a 3 x 3 convolution from the rows of its input."""

    def convolved(first: int, last: int) -> Tensor:
        return convolution.forward(given(first, last))

    line = _margined(convolved, 0, 1, height)
    n, channels, _, width = line.shape
    image = torch.empty(
        (n, channels, height, width), dtype=line.dtype, device=line.device, memory_format=torch.channels_last
    )
    for first, last in _bands(n * width * max(convolution.weight.shape[:2]), height):
        image[:, :, first:last] = _margined(convolved, first, last, height)
    return image


def _margined(rows: Rows, first: int, last: int, height: int) -> Tensor:
    """Return rows [first, last) of a 3 x 3 convolution: computed with one more on either side, which are wrong."""
    low, high = max(first - 1, 0), min(last + 1, height)
    return rows(low, high)[:, :, first - low : last - low]


def _of(x: Tensor) -> Rows:
    return lambda first, last: channels_last(x[:, :, first:last])


def _bands(line: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last row of each band, for rows of so many elements."""
    rows = max(1, _BAND // max(1, line))
    for first in range(0, height, rows):
        yield first, min(first + rows, height)
