"""What modules of the user may do: draw random numbers, as a hook that adds noise does, but not count their calls."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

_P = ParamSpec("_P")
_Model = Callable[Concatenate[Tensor, _P], Tensor]
_State = list[tuple[Callable[[Tensor], None], Tensor]]
"""States of torch's generators, each with the function that sets it."""


_NUMBERS = 256
"""Count of the numbers of an output that are compared."""
_DIFFERENT = 0.005
"""Distance of two outputs, as a share of their size, that no rounding of float32 explains."""


class Draws:
    """Lets every part of a call draw the same numbers again where the backward computes it again.

    Torch's generators are then left as they were. If a part computes something else nevertheless, its run raises.
    """

    def __init__(self) -> None:
        self._states: dict[Hashable, _State] = {}
        self._outputs: dict[Hashable, Tensor] = {}

    def anew(self) -> "Draws":
        """Return the same random numbers for models of another dtype, whose outputs are others."""
        draws = Draws()
        draws._states = self._states
        return draws

    def alike(self, model: _Model[_P], part: Hashable, reason: str) -> _Model[_P]:
        """Return a model as a function that draws the same numbers at every run of a part of the call.

        Args:
            model: denoiser or decoder, a function of latents and other arguments.
            part: names the part.
            reason: why the model runs through the user's own modules; empty for a lean model, in which nothing is
                random.

        Raises:
            RuntimeError: in a later run, if its output differs from that of the first.
        """
        if not reason:
            return model

        def drawing(sample: Tensor, /, *arguments: _P.args, **options: _P.kwargs) -> Tensor:
            if part not in self._states:
                self._states[part] = _state(sample.device)
                return self._same(part, model(sample, *arguments, **options))
            with torch.random.fork_rng([sample.device] if sample.is_cuda else []):
                for put, state in self._states[part]:
                    put(state)
                return self._same(part, model(sample, *arguments, **options))

        return drawing

    def _same(self, part: Hashable, output: Tensor) -> Tensor:
        """Return an output; raise if it is another one than that of the first run."""
        numbers = output.detach().flatten()[:: max(1, output.numel() // _NUMBERS)].double()
        first = self._outputs.setdefault(part, numbers)
        rounding = max(_DIFFERENT, torch.finfo(output.dtype).eps ** 0.5)
        if first is not numbers and (numbers - first).norm() > rounding * first.norm():
            raise RuntimeError(
                "the modules of the UNet or the VAE computed something else when a part of the call ran again for the "
                "backward, as a hook or a processor does that counts its calls; use backend='reference' and "
                "gradient='full', which run every module once"
            )
        return output


def _state(device: torch.device) -> _State:
    found: _State = [(torch.set_rng_state, torch.get_rng_state())]
    if device.type == "cuda":
        found.append((partial(torch.cuda.set_rng_state, device=device), torch.cuda.get_rng_state(device)))
    return found
