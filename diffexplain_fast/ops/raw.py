"""The raw functions for a device and dtype, chosen once, for callers with a backward of their own."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from diffexplain_fast.ops._impl import Choice, choose, raw
from diffexplain_fast.ops._sdpa import CUDNN_LSE
from diffexplain_fast.ops.attention import attention_gradients, attention_with_lse, cudnn_preferred, fitting
from diffexplain_fast.ops.reference import geglu, group_norm_silu, layer_norm


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

    def layer_norm_bwd_add(
        self, dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, more: Tensor
    ) -> Tensor:
        """Return ``layer_norm_bwd`` plus another gradient [R, D] of the same x, in one launch with Triton."""
        if self.chosen("layer_norm") == "triton":
            added: Callable[..., Tensor] = torch.ops.diffexplain_fast.layer_norm_bwd_add_triton
            return added(dy, x, weight, mean, rstd, more)
        return self.layer_norm_bwd(dy, x, weight, mean, rstd).add_(more)

    def attention_fwd(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Return the result of ``ops.attention.attention_with_lse``."""
        return attention_with_lse(q, k, v, scale, fitting(self.chosen("attention"), q, k, self.cudnn))

    def attention_bwd(
        self, do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result of ``ops.attention.attention_gradients``.

        cuDNN takes only its own log-sum-exp; all others take cuDNN's, if settings changed after the forward.
        """
        impl = fitting(self.chosen("attention"), q, k, self.cudnn if lse.ndim == CUDNN_LSE else ())
        return attention_gradients(do, q, k, v, o, lse if impl == "cudnn" else lse.flatten(2), scale, impl)
