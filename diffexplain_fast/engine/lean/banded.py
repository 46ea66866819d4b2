"""The last stage of a VAE decoder in bands of rows: upsampling, residual blocks, the image; for little memory.

Convolutions of a band need one more row on either side. The statistics of a norm and the sums of its adjoint are those
of the whole image, so each takes a pass over all bands before the pass that uses them. The upsampled input, the largest
tensor of the decoder, never exists as a whole. Residual blocks write their adjoints over tensors no longer needed.
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

_BAND = 2**21
"""Approximate number of elements in the largest tensor of a band."""

Rows = Callable[[int, int], Tensor]
"""Rows [first, last) of an image [N, C, H, W] that need not exist as a whole."""


class Statistics(NamedTuple):
    """Mean and 1 / sqrt(variance + eps) per channel [N, C, 1, 1], in float32 or better."""

    mean: Tensor
    rstd: Tensor


class Stage(NamedTuple):
    """The last stage.

    Attributes:
        up: upsampling convolution before the stage, None in a decoder of one stage.
        resnets: residual blocks, at least one.
        norm: GroupNorm before the last convolution.
        last: 3 x 3, to pixels.
        impl: implementation of the interleaving.
    """

    up: SubpixelWeight | None
    resnets: Sequence[Resnet]
    norm: Norm
    last: Convolution
    impl: str

    def __call__(self, x: Tensor) -> Tensor:
        """Return the last convolution's output for the previous stage's output x [N, C, h, w]."""
        return _Stage.apply(channels_last(x), self)

    def rows(self, x: Tensor) -> tuple[Rows, int]:
        """Return the rows of the first residual block's input, and their number."""
        if self.up is None:
            return _rows_of(x), x.shape[2]
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
            # One more line on either side, of zeros beyond the image, because the blocks begin one line earlier.
            lines = (1, 1, low - 2 * first + 1, 2 * last + 1 - high)
            dx[:, :, first:last] = self.up.adjoint(F.pad(adjoint(low, high), lines), self.impl)
        return dx


class _Stage(TensorFunction):
    @staticmethod
    def forward(ctx: Context, x: Tensor, stage: Stage) -> Tensor:
        rows, height = stage.rows(x)
        kept, statistics = [], []
        for number, resnet in enumerate(stage.resnets):
            out, *both = _forward(resnet, rows, height)
            statistics.append(both)
            if number or len(stage.resnets) == 1:
                kept.append(out)  # the first block's output is computed again
            rows = _rows_of(out)
        last = _statistics(rows, height, stage.norm)
        ctx.save_for_backward(x)
        # Not saved by autograd, where they would live to the end: the backward overwrites and frees them one by one.
        ctx.stage, ctx.kept, ctx.statistics, ctx.last = stage, kept, statistics, last
        return _convolved(stage.last, lambda a, b: _activated(rows(a, b), stage.norm, last), height)

    @staticmethod
    @first_order("the sampler's last decoder stage")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dimage: Tensor) -> tuple[Tensor | None, ...]:
        (x,), stage, kept = saved, ctx.stage, ctx.kept
        rows, height = stage.rows(x)
        if not kept:  # an earlier backward has used them up
            kept = _outputs(stage, rows, height, ctx.statistics)
        dy = kept.pop()
        _overwrite(dy, _adjoint(_rows_of(dy), _transposed(stage.last, _rows_of(dimage)), height, stage.norm, ctx.last))
        for number in reversed(range(1, len(stage.resnets))):
            before = kept.pop() if kept else _forward(stage.resnets[0], rows, height, ctx.statistics[0])[0]
            _overwrite(dy, _backward(stage.resnets[number], _rows_of(before), dy, height, ctx.statistics[number]))
            del before
        kept.clear()
        return stage.input_adjoint(x, _backward(stage.resnets[0], rows, dy, height, ctx.statistics[0]), height), None


def _outputs(stage: Stage, rows: Rows, height: int, statistics: Sequence[Sequence[Statistics]]) -> list[Tensor]:
    """Return the outputs of blocks that a backward uses, all except the first, from known statistics."""
    outputs = []
    for number, resnet in enumerate(stage.resnets):
        out, *_ = _forward(resnet, rows, height, statistics[number])
        if number or len(stage.resnets) == 1:
            outputs.append(out)
        rows = _rows_of(out)
    return outputs


def _forward(
    resnet: Resnet, rows: Rows, height: int, known: Sequence[Statistics] = ()
) -> tuple[Tensor, Statistics, Statistics]:
    """Return a residual block's output, and the statistics of its norms unless they are known."""
    stats1 = known[0] if known else _statistics(rows, height, resnet.norm1)
    h = _hidden(resnet, rows, height, stats1)
    stats2 = known[1] if known else _statistics(_rows_of(h), height, resnet.norm2)

    out = _convolved(resnet.conv2, lambda a, b: _activated(h[:, :, a:b], resnet.norm2, stats2), height)
    for first, last in _bands(resnet.conv1.weight.shape[1] * out[:, 0, 0].numel(), height):
        out[:, :, first:last] += resnet.shortened(rows(first, last))
    return (out if resnet.scale == 1.0 else out.div_(resnet.scale)), stats1, stats2


def _hidden(resnet: Resnet, rows: Rows, height: int, stats1: Statistics) -> Tensor:
    return _convolved(resnet.conv1, lambda a, b: _activated(rows(a, b), resnet.norm1, stats1), height)


def _backward(resnet: Resnet, rows: Rows, dy: Tensor, height: int, known: Sequence[Statistics]) -> Rows:
    """Return the rows of the adjoint of a residual block's input; dy may be overwritten by rows that were read."""
    stats1, stats2 = known
    scaled = _rows_of(dy) if resnet.scale == 1.0 else lambda a, b: dy[:, :, a:b] / resnet.scale
    h = _hidden(resnet, rows, height, stats1)
    _overwrite(h, _adjoint(_rows_of(h), _transposed(resnet.conv2, scaled), height, resnet.norm2, stats2))
    through = _adjoint(rows, _transposed(resnet.conv1, _rows_of(h)), height, resnet.norm1, stats1)
    return lambda a, b: through(a, b) + resnet.shortened_backward(scaled(a, b))


def _transposed(convolution: Convolution, dy: Rows) -> Rows:
    """Return rows of the adjoint of a convolution's input, a margin included that the caller cuts off."""

    def rows(first: int, last: int) -> Tensor:
        band = channels_last(dy(first, last))
        shape = (len(band), convolution.weight.shape[1], *band.shape[2:])
        return convolution.backward(band, torch.Size(shape))

    return rows


def _overwrite(into: Tensor, rows: Rows) -> None:
    """Write rows over an image; a row may be computed from the same row of the image."""
    height = into.shape[2]
    for first, last in _bands(into[:, :, 0].numel(), height):
        into[:, :, first:last] = rows(first, last)


def _adjoint(rows: Rows, da: Rows, height: int, norm: Norm, statistics: Statistics) -> Rows:
    """Return the rows of the adjoint of silu(norm(x)): rstd (g - mean(g) - n mean(g n)), g = da silu' weight."""
    mean, rstd = statistics
    weight, bias = _by_channel(norm, mean.dtype)

    def slope_and_normalised(first: int, last: int) -> tuple[Tensor, Tensor]:
        n = (rows(first, last).to(mean.dtype) - mean).mul_(rstd)
        a = n * weight + bias
        sigmoid = torch.sigmoid(a)
        slope = a.mul_(1 - sigmoid).add_(1).mul_(sigmoid)
        return _margined(da, first, last, height).to(mean.dtype) * slope * weight, n

    sums = [torch.zeros_like(mean), torch.zeros_like(mean)]
    line = rows(0, 1)
    for first, last in _bands(line.numel(), height):
        g, n = slope_and_normalised(first, last)
        sums[0] += g.sum((2, 3), keepdim=True)
        sums[1] += g.mul_(n).sum((2, 3), keepdim=True)
    pixels = height * line.shape[3]
    flat, sloped = (_grouped(total, norm.groups) / pixels for total in sums)

    def adjoint(first: int, last: int) -> Tensor:
        g, n = slope_and_normalised(first, last)
        return channels_last((g.sub_(flat).sub_(n.mul_(sloped)).mul_(rstd)).to(line.dtype))

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
    line, bands = rows(0, 1), []
    dtype = torch.promote_types(line.dtype, torch.float32)
    channels = line.shape[1]
    for first, last in _bands(line.numel(), height):
        band = torch.unflatten(rows(first, last).to(dtype), 1, (norm.groups, -1))
        variance, mean = torch.var_mean(band, (2, 3, 4), correction=0)
        bands.append((band[0, 0].numel(), mean, variance))
    total = sum(count for count, _, _ in bands)
    mean = torch.stack([count / total * each for count, each, _ in bands]).sum(0)
    spread = [count / total * (variance + (each - mean) ** 2) for count, each, variance in bands]
    rstd = torch.rsqrt(torch.stack(spread).sum(0) + norm.eps)
    rstd = rstd.masked_fill(rstd == 0, torch.nan)  # else squares beyond the range would silently leave only the bias
    repeats = channels // norm.groups
    return Statistics(*(each.repeat_interleave(repeats, 1)[:, :, None, None] for each in (mean, rstd)))


def _grouped(sums: Tensor, groups: int) -> Tensor:
    """Return the mean over each group's channels of [N, C, 1, 1], for every channel."""
    by_group = torch.unflatten(sums, 1, (groups, -1))
    return by_group.mean(2, keepdim=True).expand_as(by_group).flatten(1, 2)


def _by_channel(norm: Norm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return norm.weight.to(dtype)[:, None, None], norm.bias.to(dtype)[:, None, None]


def _convolved(convolution: Convolution, rows: Rows, height: int) -> Tensor:
    """Return the output image of a 3 x 3 convolution from the rows of its input."""

    def band(first: int, last: int) -> Tensor:
        return convolution.forward(rows(first, last))

    line = _margined(band, 0, 1, height)
    n, channels, _, width = line.shape
    image = torch.empty(
        (n, channels, height, width), dtype=line.dtype, device=line.device, memory_format=torch.channels_last
    )
    for first, last in _bands(n * width * max(convolution.weight.shape[:2]), height):
        image[:, :, first:last] = _margined(band, first, last, height)
    return image


def _margined(rows: Rows, first: int, last: int, height: int) -> Tensor:
    """Return rows [first, last) of a 3 x 3 convolution, computed with one more on either side, which are cut off."""
    low, high = max(first - 1, 0), min(last + 1, height)
    return rows(low, high)[:, :, first - low : last - low]


def _rows_of(x: Tensor) -> Rows:
    return lambda first, last: channels_last(x[:, :, first:last])


def _bands(line: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last row of each band, for rows of so many elements."""
    rows = max(1, _BAND // max(1, line))
    for first in range(0, height, rows):
        yield first, min(first + rows, height)
