"""What modules of the user may do: draw random numbers, as a hook that adds noise does, but not count their calls."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.repeated import Repeated

_P = ParamSpec("_P")
_Model = Callable[Concatenate[Tensor, _P], Tensor]
_State = list[tuple[Callable[[Tensor], None], Tensor]]
"""States of torch's generators, each with the function that sets it."""


class Draws:
    """Lets every part of a call draw the same numbers again where the backward computes it again.

    Torch's generators are then left as they were. If a part computes something else nevertheless, its run raises.
    """

    def __init__(self) -> None:
        self._states: dict[Hashable, _State] = {}
        self._repeated: dict[int, Repeated] = {}

    def anew(self) -> "Draws":
        """Return the same random numbers for models of another dtype, whose outputs are others."""
        draws = Draws()
        draws._states = self._states
        return draws

    def alike(self, model: _Model[_P], part: Hashable, own: nn.Module | None) -> _Model[_P]:
        """Return a model as a function that draws the same numbers at every run of a part of the call.

        Args:
            model: denoiser or decoder, a function of latents and other arguments.
            part: names the part.
            own: the user's module that the model runs; None for a lean model, in which nothing is random.

        Raises:
            RuntimeError: in a later run, if its output differs from that of the first; see ``Repeated``.
        """
        if own is None:
            return model
        if id(own) not in self._repeated:
            self._repeated[id(own)] = Repeated(own)
        repeated = self._repeated[id(own)]

        def drawing(sample: Tensor, /, *arguments: _P.args, **options: _P.kwargs) -> Tensor:
            if part not in self._states:
                before = _state(sample.device)
                try:
                    output = repeated.run(part, lambda: model(sample, *arguments, **options))
                except BaseException:
                    _put(before)  # a part that runs again because memory ran out is still the first to draw
                    raise
                self._states[part] = before
                return output
            with torch.random.fork_rng([sample.device] if sample.is_cuda else []):
                _put(self._states[part])
                return repeated.run(part, lambda: model(sample, *arguments, **options))

        return drawing


def _state(device: torch.device) -> _State:
    found: _State = [(torch.set_rng_state, torch.get_rng_state())]
    if device.type == "cuda":
        found.append((partial(torch.cuda.set_rng_state, device=device), torch.cuda.get_rng_state(device)))
    return found


def _put(states: _State) -> None:
    for put, state in states:
        put(state)
