"""Group norms of a step that may be computed again: their statistics, a few hundred bytes, are then known."""

from torch import Tensor

from diffexplain_fast.engine.lean.levels import Level
from diffexplain_fast.ops.raw import FrozenNorm, RawOps


def group_normed(
    level: Level, raw: RawOps, x: Tensor, skip: Tensor | None, shift: Tensor | None, norm: FrozenNorm, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm [N, C, H, W], and mean and rstd of each group.

    Args:
        level: storage level; with a shelf, the statistics are computed the first time only.
        raw: raw functions to run.
        x: input [N, C1, H, W], channels-last.
        skip: second part of the channels, as x, or None.
        shift: from ``RawOps.shift_rows``.
        norm: the norm.
        silu: whether SiLU follows.
    """
    made: list[Tensor] = []

    def statistics() -> tuple[Tensor, ...]:
        y, mean, rstd = raw.group_norm_fwd(x, skip, shift, norm.weight, norm.bias, norm.groups, norm.eps, silu)
        made.append(y)
        return mean, rstd

    mean, rstd = level.remembered(statistics)
    y = made[0] if made else raw.group_norm_again(x, skip, shift, norm, (mean, rstd), silu)[0]
    return y, mean, rstd


def group_normed_copy(
    level: Level, raw: RawOps, x: Tensor, shift: Tensor | None, norm: FrozenNorm, silu: bool, offset: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the same for one tensor, and the copy of ``RawOps.group_norm_fwd_copy``.

    Args:
        level: the first five arguments, and ``silu``, are those of ``group_normed``.
        raw: raw functions to run.
        x: input [N, C, H, W], channels-last.
        shift: from ``RawOps.shift_rows``.
        norm: the norm.
        silu: whether SiLU follows.
        offset: [C], added to x + shift in the copy.
    """
    made: list[tuple[Tensor, Tensor]] = []

    def statistics() -> tuple[Tensor, ...]:
        y, mean, rstd, copy = raw.group_norm_fwd_copy(x, shift, norm, silu, offset)
        made.append((y, copy))
        return mean, rstd

    mean, rstd = level.remembered(statistics)
    y, copy = made[0] if made else raw.group_norm_again(x, None, shift, norm, (mean, rstd), silu, offset)
    return y, mean, rstd, copy
