"""float16 through the whole chain: adjoints are rescaled by powers of two, and errors name the part that overflows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.errors import NonFiniteError

_TARGET = 2.0**6
"""Size of the largest element of a float16 adjoint after rescaling: far from overflow (65504) and from underflow."""


def scale_of(adjoints: Sequence[Tensor], dtype: torch.dtype) -> Tensor | float:
    """Return the power of two by which adjoints are multiplied before they go back through a float16 model.

    The chain is linear in the adjoints, so a division afterwards gives the same gradient. The scale is computed on the
    device, so that the CPU does not wait.

    Args:
        adjoints: adjoints of the outputs of one part, which all get the same scale.
        dtype: dtype of the model; for every dtype except float16 the scale is 1.
    """
    if dtype != torch.float16:
        return 1.0
    largest = torch.stack([adjoint.abs().amax().float() for adjoint in adjoints]).amax()
    # Zeros, and adjoints that are not finite, stay as they are.
    scale = torch.exp2(torch.floor(torch.log2(_TARGET / largest)))
    return torch.where(scale.isfinite() & (scale > 0), scale, torch.ones_like(scale))


def scaled(adjoint: Tensor, scale: Tensor | float) -> Tensor:
    """Return an adjoint times a scale from ``scale_of``, in its own dtype."""
    # A GPU would convert the scale to float16 first, and a scale for adjoints below 1e-3 is not finite there.
    return adjoint if isinstance(scale, float) else (_wide(adjoint) * scale).to(adjoint.dtype)


def divided(adjoint: Tensor, scale: Tensor | float) -> Tensor:
    """Return an adjoint divided by a scale from ``scale_of``, in its own dtype."""
    return adjoint if isinstance(scale, float) else (_wide(adjoint) / scale).to(adjoint.dtype)


def _wide(adjoint: Tensor) -> Tensor:
    return adjoint.to(torch.promote_types(adjoint.dtype, torch.float32))


class Finite:
    """Notes which parts of a float16 run stay finite, and asks the device once, at the end.

    Args:
        direction: "forward" or "backward", for the message.
        dtype: dtype of the model; only float16 runs are checked.
    """

    def __init__(self, direction: str, dtype: torch.dtype) -> None:
        self._direction, self._active = direction, dtype == torch.float16
        self._names: list[str] = []
        self._flags: list[Tensor] = []

    def note(self, name: str, tensors: Sequence[Tensor | None]) -> None:
        """Note whether the results of a part are finite; ``name`` is the part in the message."""
        results = [tensor.detach() for tensor in tensors if tensor is not None]
        if self._active and results:
            self._names.append(name)
            self._flags.append(torch.stack([tensor.isfinite().all() for tensor in results]).all())

    def check(self) -> None:
        """Refuse a run that is not finite.

        Raises:
            NonFiniteError: names the first part that is not finite.
        """
        if not self._flags:
            return
        flags = torch.stack(self._flags).tolist()
        if not all(flags):
            raise NonFiniteError(
                f"the {self._direction} of {self._names[flags.index(False)]} is not finite in torch.float16; "
                "run the models in bfloat16 or float32, such as pipe.to(torch.bfloat16)"
            )
