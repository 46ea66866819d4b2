"""The raw functions of a device and dtype, chosen once: for callers that write their own backward."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffexplain_fast.ops._impl import Choice, choose, raw
from diffexplain_fast.ops.attention import attention_gradients, attention_with_lse, fitting
from diffexplain_fast.ops.reference import geglu, group_norm_silu, layer_norm


class RawOps:
    """Forward and backward of each op without autograd and without checks.

    Args:
        device: where the tensors are.
        dtype: their dtype.
        impl: "auto" or "reference", for every op.

    Attributes:
        choices: what runs for each op, and why.
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
        modules = {"group_norm_silu": group_norm_silu, "layer_norm": layer_norm, "geglu": geglu}
        for op, module in modules.items():
            for way in ("fwd", "bwd"):
                function = raw(f"{op}_{way}", self.chosen(op), getattr(module, f"{op}_{way}"))
                setattr(self, f"{op.removesuffix('_silu')}_{way}", function)

    def chosen(self, op: str) -> str:
        """Return what runs for an op: an ``impl`` by name for the ops that are not raw."""
        return self.choices[op].impl

    def described(self) -> str:
        """Return what runs, with the reasons where "auto" found nothing better than the reference."""
        said = {op: choice.impl for op, choice in self.choices.items()}
        if said["attention"] in ("triton", "cpp"):
            said["attention"] += " or sdpa, by size"
        for op, choice in self.choices.items():
            if choice.impl == "reference" and choice.reason.startswith("auto"):
                said[op] += f" ({choice.reason})"
        return ", ".join(f"{op}: {what}" for op, what in said.items())

    def attention_fwd(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return what ``ops.attention.attention_with_lse`` does."""
        return attention_with_lse(q, k, v, scale, fitting(self.chosen("attention"), q, k))

    def attention_bwd(
        self, do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what ``ops.attention.attention_gradients`` does."""
        return attention_gradients(do, q, k, v, o, lse, scale, fitting(self.chosen("attention"), q, k))
