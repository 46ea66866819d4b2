"""LoRA layers whose two thin matrices are trained beside a frozen weight: their part of a projection, and gradients.

The inputs of the two matrices are computed again in the backward, so an adapter keeps nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from diffexplain_fast.models.frozen import Adapted


class LoraLayer(Adapted, Protocol):
    """Attributes of PEFT's LoRA layers."""

    lora_A: Mapping[str, nn.Module]
    lora_B: Mapping[str, nn.Module]
    scaling: Mapping[str, float]


class Thin(NamedTuple):
    """The trained part of a projection: s B A x.

    Attributes:
        down: A, the user's parameter [r, C].
        up: B, the user's parameter [K, r].
        scaling: s.

    Source: Hu et al., LoRA (arXiv 2106.09685), eq. 3.
    """

    down: Tensor
    up: Tensor
    scaling: float

    def forward(self, x: Tensor) -> Tensor:
        """Return s B A x [..., K] for x [..., C], without a gradient of its own."""
        h = F.linear(x.to(self.down.dtype), self.down)
        return (self.scaling * F.linear(h, self.up)).to(x.dtype)

    def backward(self, dy: Tensor) -> Tensor:
        """Return the gradient of x [..., C], for dy [..., K]."""
        return (self.scaling * (dy.to(self.up.dtype) @ self.up) @ self.down).to(dy.dtype)

    def gradients(self, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of A and B.

        Args:
            x: the projection's input [..., C].
            dy: gradient of the projection's output [..., K], with as many rows.
        """
        rows, dout = (tensor.reshape(-1, tensor.shape[-1]).to(self.down.dtype) for tensor in (x, dy))
        dh = self.scaling * (dout @ self.up)
        return dh.t() @ rows, self.scaling * (dout.t() @ F.linear(rows, self.down))


def adapted(y: Tensor, x: Tensor, thin: Sequence[Thin]) -> Tensor:
    """Return a frozen projection's output y with the trained parts of its input x added, in place."""
    for adapter in thin:
        y += adapter.forward(x)
    return y


def adapted_backward(dx: Tensor, dy: Tensor, thin: Sequence[Thin]) -> Tensor:
    """Return a frozen projection's input gradient with that through the trained parts added, in place."""
    for adapter in thin:
        dx += adapter.backward(dy)
    return dx


def matrices(*groups: Sequence[Thin]) -> list[Tensor]:
    """Return the matrices of several projections, down before up, in the order in which autograd sees them."""
    return [matrix for thin in groups for adapter in thin for matrix in (adapter.down, adapter.up)]


def matrix_gradients(*groups: tuple[Sequence[Thin], Tensor, Tensor]) -> list[Tensor]:
    """Return the gradients of ``matrices``.

    Args:
        *groups: trained adapters of a projection, input of the projection and gradient of its output.
    """
    return [grad for thin, x, dy in groups for adapter in thin for grad in adapter.gradients(x, dy)]


def read_thin(module: LoraLayer, adapter: str) -> Thin | None:
    """Read a trained adapter of a LoRA layer; None if neither of its matrices is trained.

    Args:
        module: PEFT's layer over a linear layer.
        adapter: name of an active adapter.
    """
    # Not ``get_parameter``, which refuses what a parametrization or ``torch.func.functional_call`` puts in its place.
    down, up = (cast(Tensor, layer.weight) for layer in (module.lora_A[adapter], module.lora_B[adapter]))
    if not (down.requires_grad or up.requires_grad):
        return None
    return Thin(down, up, float(module.scaling[adapter]))


def plain_adapter(module: LoraLayer, adapter: str) -> bool:
    """Whether an adapter consists of two plain matrices, the only kind that ``Thin`` computes."""
    layers = (module.lora_A[adapter], module.lora_B[adapter])
    plain = all(type(layer) is nn.Linear and layer.bias is None for layer in layers)
    return plain and not getattr(module, "fan_in_fan_out", False)
