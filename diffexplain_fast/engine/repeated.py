"""What runs again for a backward: the modules of the user have to compute what they computed in the call."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.graphs.agreement import rounding_unit
from diffexplain_fast.models.attributes import Listener
from diffexplain_fast.models.watch import own_parts

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


class _Look(NamedTuple):
    """What is kept of a tensor that a module returned.

    Attributes:
        numbers: some of its numbers.
        graph: True if a graph was recorded of it.
    """

    numbers: Tensor
    graph: bool


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
        self._first: dict[Hashable, list[list[_Look]]] = {}

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
        seen.append(_looks(output))
        first = self._first.setdefault(part, seen)
        if first is not seen:
            dtypes = {output.dtype, *self._dtypes}
            unit = rounding_unit(dtypes, output.device)
            if _differ(first, seen, next(bound for largest, bound in _BOUNDS if unit <= largest)):
                raise RuntimeError(ANOTHER)
        return output


@contextmanager
def _listening(parts: Sequence[nn.Module]) -> Iterator[list[list[_Look]]]:
    """Return a list that gets the looks at every output of some modules, in the order in which this thread runs them.

    Outputs without a floating tensor are left out.
    """
    seen: list[list[_Look]] = []
    thread = threading.get_ident()

    def listen(output: object) -> None:
        if threading.get_ident() == thread and (looks := _looks(output)):
            seen.append(looks)

    listener = Listener(listen)
    handles = [part.register_forward_hook(listener) for part in parts]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _looks(output: object) -> list[_Look]:
    """Return a look at each floating tensor of what a module returned, at any depth."""
    return [_Look(_numbers(tensor), tensor.requires_grad) for tensor in _floating(output)]


def _floating(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict | list | tuple):
        for each in output.values() if isinstance(output, dict) else output:
            yield from _floating(each)


def _numbers(output: Tensor) -> Tensor:
    """Return some numbers of an output, at equal distances, in single precision or better.

    The places do not depend on the order in memory, in which two runs may differ.
    """
    values, step = output.detach(), max(1, output.numel() // _NUMBERS)
    if values.is_contiguous():
        numbers = values.flatten()[::step]
    else:  # ``flatten`` would copy all of it
        places, indices = torch.arange(0, values.numel(), step, device=values.device), []
        for size in reversed(values.shape):
            indices.append(places % size)
            places = places // size
        numbers = values[tuple(reversed(indices))]
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32), copy=True)


def _differ(first: Sequence[list[_Look]], again: Sequence[list[_Look]], bound: float) -> bool:
    """Return whether the model's outputs, which are the last, or those of its modules are further apart than a bound.

    Where another number of modules ran, as of a processor that keeps a result, only the model's outputs are compared.
    """
    outputs = list(zip(first, again, strict=True)) if len(first) == len(again) else [(first[-1], again[-1])]
    pairs = [pair for before, now in outputs for pair in _compared(before, now)]
    apart = [(now - before).norm() > bound * before.norm() for before, now in pairs]
    return bool(apart) and bool(torch.stack(apart).any())


def _compared(before: list[_Look], now: list[_Look]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the numbers of the tensors of one output that have to be the same in two runs.

    These are the tensors with a graph. If there are none, they are all of more than one number: a single number may
    be a count of the calls, which the model does not compute with.
    """
    if len(before) != len(now):
        return
    graph = any(look.graph for look in (*before, *now))
    for one, other in zip(before, now, strict=True):
        wanted = one.graph or other.graph if graph else one.numbers.numel() > 1
        if wanted and one.numbers.shape == other.numbers.shape:
            yield one.numbers, other.numbers
