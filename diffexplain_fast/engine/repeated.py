"""What runs again for a backward: the modules of the user have to compute what they computed in the call."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.graphs.agreement import rounding_unit
from diffexplain_fast.models.watch import Listener, own_parts

ANOTHER = (
    "the modules of the UNet or the VAE computed something else when a part of the call ran again for the "
    "backward, as a hook or a processor does that counts its calls; use backend='reference' and "
    "gradient='full', which run every module once"
)
"""Why a backward that computes a part of the call again cannot run."""
_NUMBERS = 256
"""Count of the numbers of an output that are compared."""
_BOUNDS = ((1e-15, 1e-11), (1e-6, 1e-4), (2e-3, 0.01), (1.0, 0.06))
"""Largest spacing of numbers, see ``rounding_unit``, and the distance of two outputs, as a share of their size, that
rounding explains: in float64, in float32, in float16 and TF32, and in bfloat16.

The same kernels give equal bits. Others, in a UNet and a decoder of four levels, were up to 4e-15, 2e-6, 0.0024 and
0.019 away.
"""


class Repeated:
    """Runs parts of a call through a model of the user, and notices where a later run computes something else.

    Compared are the output of the model, and the outputs of those of its modules that are the user's own or have a
    hook: what such a module does may be a small share of the model's output, and yet all of a prompt's gradient.

    Args:
        model: UNet or VAE.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parts = own_parts(model)
        self._dtypes = {weight.dtype for weight in model.parameters() if weight.dtype.itemsize > 1}
        self._first: dict[Hashable, list[Tensor]] = {}

    def run(self, part: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return an output of the model.

        Args:
            part: names the part of the call.
            compute: runs the model.

        Raises:
            RuntimeError: in a later run of a part, if an output differs from that of the first run by more than
                rounding.
        """
        with _listening(self._parts) as seen:
            output = compute()
        seen.append(_numbers(output))
        first = self._first.setdefault(part, seen)
        if first is not seen:
            dtypes = {output.dtype, *self._dtypes}
            if torch.is_autocast_enabled(output.device.type):
                dtypes.add(torch.get_autocast_dtype(output.device.type))
            unit = rounding_unit(dtypes, output.device)
            if _differ(first, seen, next(bound for largest, bound in _BOUNDS if unit <= largest)):
                raise RuntimeError(ANOTHER)
        return output


@contextmanager
def _listening(parts: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Return a list that gets numbers of every output of some modules, in the order in which this thread runs them."""
    seen: list[Tensor] = []
    thread = threading.get_ident()

    def listen(output: object) -> None:
        if threading.get_ident() == thread and (tensor := _first_tensor(output)) is not None:
            seen.append(_numbers(tensor))

    listener = Listener(listen)
    handles = [part.register_forward_hook(listener) for part in parts]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _first_tensor(output: object) -> Tensor | None:
    """Return the first tensor of what a module returned, if it has floating numbers."""
    while isinstance(output, dict | list | tuple) and output:
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output if isinstance(output, Tensor) and output.is_floating_point() else None


def _numbers(output: Tensor) -> Tensor:
    """Return some numbers of an output, at equal distances, in single precision or better."""
    numbers = output.detach().flatten()[:: max(1, output.numel() // _NUMBERS)]
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32), copy=True)


def _differ(first: Sequence[Tensor], again: Sequence[Tensor], bound: float) -> bool:
    """Return whether the model's outputs, which are the last, or those of its modules are further apart than a bound.

    Where another number of modules ran, as of a processor that keeps a result, only the model's outputs are compared.
    """
    pairs = list(zip(first, again, strict=True)) if len(first) == len(again) else [(first[-1], again[-1])]
    pairs = [(before, now) for before, now in pairs if before.shape == now.shape]
    apart = [(now - before).norm() > bound * before.norm() for before, now in pairs]
    return bool(apart) and bool(torch.stack(apart).any())
