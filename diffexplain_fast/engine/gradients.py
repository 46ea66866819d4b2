"""Which part of a sampler's gradient is computed, and how it is stored."""

import re
from dataclasses import dataclass

from diffexplain_fast.errors import wrong_type, wrong_value

_WANTED = "'full', 'checkpointed', 'last:K', 'detached' or 'shortcut:K'"


@dataclass(frozen=True)
class GradientMode:
    """How to differentiate the denoising loop x_{i+1} = a_i x_i + b_i o(x_i, p).

    Attributes:
        first_step: steps before this one are run without a graph.
        checkpointed: store each step's sample only and recompute the rest; the gradient is the full one.
        detached: leave out how the denoiser's output follows from its input latents, so g_i = a_i g_{i+1}; every step
            still adds b_i J_p^T g_{i+1} to the prompt's gradient.
        calls: of the denoiser, after which the sampler jumps to the clean sample; None for all.
    """

    first_step: int = 0
    checkpointed: bool = False
    detached: bool = False
    calls: int | None = None

    @classmethod
    def parse(cls, gradient: str, num_steps: int) -> "GradientMode":
        """Read "full", "checkpointed", "last:K", "detached" or "shortcut:K" (K of the ``num_steps`` steps).

        Raises:
            TypeError: ``gradient`` is no text.
            ValueError: it is none of these, or K is not 1 to ``num_steps``.

        Source: Clark et al., DRaFT (arXiv 2309.17400), section 3, for last:K; DEXTER (arXiv 2510.14741) for detached;
            Wang et al., DPO-Diff (arXiv 2407.01606), "shortcut text gradient", for shortcut:K.
        """
        if not isinstance(gradient, str):
            raise wrong_type("gradient", _WANTED, gradient)
        if gradient in ("full", "checkpointed", "detached"):
            return cls(checkpointed=gradient == "checkpointed", detached=gradient == "detached")
        found = re.fullmatch(r"(last|shortcut):([0-9]+)", gradient)
        if found is None:
            raise wrong_value("gradient", _WANTED, repr(gradient))
        kind, number = found[1], int(found[2])
        if not 1 <= number <= num_steps:
            raise wrong_value("gradient", f"'{kind}:K' with K of 1 to {num_steps}, the number of steps", repr(gradient))
        if kind == "shortcut":
            return cls(first_step=number - 1, calls=number)
        return cls(first_step=num_steps - number)
