"""The raw functions for a device and dtype, chosen once, for callers with a backward of their own."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from diffexplain_fast.ops._impl import Choice, choose, raw
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops._sdpa import CUDNN_LSE
from diffexplain_fast.ops.attention import (
    attention_gradients,
    attention_with_lse,
    cudnn_preferred,
    fitting,
    reads_output,
)
from diffexplain_fast.ops.reference import geglu, group_norm_silu, layer_norm


class FrozenNorm(Protocol):
    """A group norm's weight and bias [C], its groups, and what is added to the variance."""

    @property
    def weight(self) -> Tensor: ...
    @property
    def bias(self) -> Tensor: ...
    @property
    def groups(self) -> int: ...
    @property
    def eps(self) -> float: ...


class RawOps:
    """Forward and backward of each op without autograd and without checks.

    Args:
        device: device of the tensors.
        dtype: dtype of the tensors.
        impl: "auto" or "reference", for every op.

    Attributes:
        choices: the implementation that runs for each op, and the reason.
        cudnn: head dimensions for which torch prefers cuDNN's attention on the device.
    """

    group_norm_fwd: Callable[..., tuple[Tensor, Tensor, Tensor]]
    group_norm_bwd: Callable[..., tuple[Tensor, Tensor]]
    layer_norm_fwd: Callable[..., tuple[Tensor, Tensor, Tensor]]
    layer_norm_bwd: Callable[..., Tensor]
    geglu_fwd: Callable[..., Tensor]
    geglu_bwd: Callable[..., Tensor]

    def __init__(self, device: torch.device, dtype: torch.dtype, impl: str = "auto") -> None:
        self.choices: dict[str, Choice] = {
            op: choose(op, impl, device, dtype)
            for op in ("group_norm_silu", "layer_norm", "geglu", "attention", "interleave")
        }
        self.cudnn: Collection[int] = cudnn_preferred(device, dtype) if impl == "auto" else ()
        modules = {"group_norm_silu": group_norm_silu, "layer_norm": layer_norm, "geglu": geglu}
        for op, module in modules.items():
            for way in ("fwd", "bwd"):
                function = raw(f"{op}_{way}", self.chosen(op), getattr(module, f"{op}_{way}"))
                setattr(self, f"{op.removesuffix('_silu')}_{way}", function)

    def chosen(self, op: str) -> str:
        """Return the name of the implementation that runs for an op."""
        return self.choices[op].impl

    def described(self) -> str:
        """Return the implementation of each op as text, with the reason if "auto" chose the reference."""
        texts = {op: choice.impl for op, choice in self.choices.items()}
        if texts["attention"] in ("triton", "cpp"):
            texts["attention"] += " or sdpa, by size"
        if self.cudnn and texts["attention"] != "reference":
            texts["attention"] += (
                " (for long keys cudnn, whose gradients are summed in any order; not in deterministic calls)"
            )
        for op, choice in self.choices.items():
            if choice.impl == "reference" and choice.reason.startswith("auto"):
                texts[op] += f" ({choice.reason})"
        return ", ".join(f"{op}: {text}" for op, text in texts.items())

    def _as_triton(self, op: str) -> bool:
        """Whether an op runs Triton's kernels, or the reference, which does as they do."""
        return self.chosen(op) in ("triton", "reference")

    @property
    def adds_in_products(self) -> bool:
        """Whether a layer's last product adds to a copy of the layer's input, which the norm before the layer writes.

        This saves a launch.
        """
        return self._as_triton("group_norm_silu") and self._as_triton("layer_norm")

    def layer_norm_fwd_copy(
        self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, offset: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``layer_norm_fwd`` of x [R, D], and x + offset [R, D] for an offset [D], in one launch with Triton."""
        if self.chosen("layer_norm") == "triton":
            copied: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
            copied = torch.ops.diffexplain_fast.layer_norm_fwd_copy_triton
            return copied(x, weight, bias, eps, offset)
        return *self.layer_norm_fwd(x, weight, bias, eps), x + offset

    def group_norm_fwd_copy(
        self, x: Tensor, shift: Tensor | None, norm: FrozenNorm, silu: bool, offset: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``group_norm_fwd`` of one tensor, and a copy of it, in the same launches with Triton.

        Args:
            x: input [N, C, H, W], channels-last.
            shift: from ``shift_rows``.
            norm: the norm.
            silu: whether SiLU follows.
            offset: [C], added to x + shift in the copy.
        """
        rest = (norm.weight, norm.bias, norm.groups, norm.eps, silu)
        if self.chosen("group_norm_silu") == "triton":
            copied: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
            copied = torch.ops.diffexplain_fast.group_norm_silu_fwd_copy_triton
            return copied(x, shift, *rest, offset)
        moved = offset if shift is None else shift + offset
        return *self.group_norm_fwd(x, None, shift, *rest), channels_last(x + moved.view(-1, x.shape[1], 1, 1))

    def group_norm_again(
        self, x: Tensor, skip: Tensor | None, shift: Tensor | None, norm: FrozenNorm, statistics: Sequence[Tensor],
        silu: bool, offset: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return the norm once more from its statistics, which is one launch with Triton, and the copy.

        Args:
            x: input [N, C1, H, W], channels-last.
            skip: second part of the channels, as x, or None.
            shift: from ``shift_rows``.
            norm: the norm.
            statistics: mean and rstd of each group, from ``group_norm_fwd``; other kernels compute them again.
            silu: whether SiLU follows.
            offset: as in ``group_norm_fwd_copy``, without a skip; None for no copy, which is then empty.
        """
        rest = (norm.groups, norm.eps, silu)
        if self.chosen("group_norm_silu") == "triton":
            known: Callable[..., tuple[Tensor, Tensor]] = torch.ops.diffexplain_fast.group_norm_silu_again_triton
            return known(x, skip, shift, norm.weight, norm.bias, *statistics, *rest, offset)
        if offset is not None:
            y, *_, copy = self.group_norm_fwd_copy(x, shift, norm, silu, offset)
            return y, copy
        return self.group_norm_fwd(x, skip, shift, norm.weight, norm.bias, *rest)[0], x.new_empty(0)

    def layer_norm_bwd_add(
        self, dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, more: Tensor
    ) -> Tensor:
        """Return ``layer_norm_bwd`` plus another gradient [R, D] of the same x, in one launch with Triton."""
        if self.chosen("layer_norm") == "triton":
            added: Callable[..., Tensor] = torch.ops.diffexplain_fast.layer_norm_bwd_add_triton
            return added(dy, x, weight, mean, rstd, more)
        return self.layer_norm_bwd(dy, x, weight, mean, rstd).add_(more)

    def group_norm_bwd_add(
        self, dy: Tensor, x: Tensor, shift: Tensor | None, norm: FrozenNorm, mean: Tensor, rstd: Tensor, silu: bool,
        more: Tensor, beside: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """Return ``group_norm_bwd`` of one tensor plus other gradients of it, in the same launches with Triton.

        Args:
            dy: gradient of the output; all images are [N, C, H, W], channels-last.
            x: input.
            shift: from ``shift_rows``.
            norm: the norm.
            mean: mean of each group, from ``group_norm_fwd``.
            rstd: reciprocal of each group's standard deviation.
            silu: whether SiLU follows.
            more: another gradient of x.
            beside: a third gradient of x, or None.
        """
        arguments = (dy, x, None, shift, norm.weight, norm.bias, mean, rstd, norm.groups, silu)
        if self.chosen("group_norm_silu") == "triton":
            return torch.ops.diffexplain_fast.group_norm_silu_bwd_add_triton(*arguments, more, beside)[0]
        total = self.group_norm_bwd(*arguments)[0].add_(more)
        return total if beside is None else total.add_(beside)

    @property
    def packs_projections(self) -> bool:
        """Whether three products of one input are worth a copy of their weights as one, because launches take time."""
        return self._as_triton("group_norm_silu")

    @property
    def shares_shift(self) -> bool:
        """Whether the group norm reads a shift of one row for all images; C++ and CUDA kernels read a row for each."""
        return self._as_triton("group_norm_silu")

    def shift_rows(self, shift: Tensor, images: int) -> Tensor:
        """Return a shift [1 or N, C] as ``group_norm_fwd`` reads it, for a number of images."""
        return shift if self.shares_shift else shift.expand(images, -1).contiguous()

    def attention_fwd(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return the result of ``ops.attention.attention_with_lse``."""
        return attention_with_lse(q, k, v, scale, fitting(self.chosen("attention"), q, k, self.cudnn))

    def reads_output(self, q: Tensor, k: Tensor) -> bool:
        """Return whether ``attention_bwd`` needs the output; with a text's few keys, Triton's kernels do not."""
        return reads_output(q, k, fitting(self.chosen("attention"), q, k, self.cudnn))

    def attention_bwd(
        self, do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor | None, lse: Tensor, scale: float, first: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result of ``ops.attention.attention_gradients``.

        cuDNN takes only its own log-sum-exp; all others take cuDNN's, if settings changed after the forward.
        """
        impl = fitting(self.chosen("attention"), q, k, self.cudnn if lse.ndim == CUDNN_LSE else ())
        return attention_gradients(do, q, k, v, o, lse if impl == "cudnn" else lse.flatten(2), scale, impl, first)
