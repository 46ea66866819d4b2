"""Random numbers that the user's own modules draw, such as a hook that adds noise."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

_P = ParamSpec("_P")
_Model = Callable[Concatenate[Tensor, _P], Tensor]
_State = list[tuple[Callable[[Tensor], None], Tensor]]
"""States of torch's generators, each with the function that sets it."""


class Draws:
    """Lets every part of a call draw the same numbers again where the backward computes it again.

    Torch's generators are then left as they were.
    """

    def __init__(self) -> None:
        self._states: dict[Hashable, _State] = {}

    def alike(self, model: _Model[_P], part: Hashable, reason: str) -> _Model[_P]:
        """Return a model as a function that draws the same numbers at every run of a part of the call.

        Args:
            model: denoiser or decoder, a function of latents and other arguments.
            part: names the part.
            reason: why the model runs through the user's own modules; empty for a lean model, in which nothing is
                random.
        """
        if not reason:
            return model

        def drawing(sample: Tensor, /, *arguments: _P.args, **options: _P.kwargs) -> Tensor:
            if part not in self._states:
                self._states[part] = _state(sample.device)
                return model(sample, *arguments, **options)
            with torch.random.fork_rng([sample.device] if sample.is_cuda else []):
                for put, state in self._states[part]:
                    put(state)
                return model(sample, *arguments, **options)

        return drawing


def _state(device: torch.device) -> _State:
    found: _State = [(torch.set_rng_state, torch.get_rng_state())]
    if device.type == "cuda":
        found.append((partial(torch.cuda.set_rng_state, device=device), torch.cuda.get_rng_state(device)))
    return found
