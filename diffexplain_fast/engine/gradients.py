"""Which part of a sampler's gradient is computed, and how: a class for each way that the literature knows.

The denoising loop is x_{i+1} = a_i x_i + b_i o(x_i, p), with the denoiser's output o and the prompt p.
"""

import re
from dataclasses import dataclass

from diffexplain_fast.errors import wrong_type, wrong_value

__all__ = ["Checkpointed", "Detached", "Full", "GradientMode", "LastSteps", "Shortcut", "parse_gradient"]
_WANTED = "a mode of diffexplain_fast.gradients, or 'full', 'checkpointed', 'last:K', 'detached' or 'shortcut:K'"


@dataclass(frozen=True)
class Differentiated:
    """The part of a loop, with a known number of steps, that is differentiated.

    Attributes:
        first_step: steps before this one run without a graph.
        checkpointed: store only the sample of each step and recompute the rest.
        detached: treat the input latents of the denoiser as constants.
        calls: number of calls of the denoiser, after which the sampler jumps to the clean sample; None for all steps.
    """

    first_step: int = 0
    checkpointed: bool = False
    detached: bool = False
    calls: int | None = None


class GradientMode:
    """A way to differentiate the denoising loop; its text, such as "last:4", is the same for the command line."""

    def differentiated(self, num_steps: int) -> Differentiated:
        """Return the part of a loop of ``num_steps`` steps that is differentiated.

        Raises:
            ValueError: the mode asks for more steps than there are.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Full(GradientMode):
    """The exact gradient (backpropagation through time; the discrete adjoint of the sampler).

    Cost: one backward of the denoiser per step, and memory for the tensors that each step keeps, which the fast backend
    plans under a byte limit. This is the default; use it unless a bias is acceptable.
    """

    def differentiated(self, num_steps: int) -> Differentiated:
        return Differentiated()

    def __str__(self) -> str:
        return "full"


@dataclass(frozen=True)
class Checkpointed(GradientMode):
    """The exact gradient with one stored sample per step (gradient checkpointing, Chen et al., arXiv 1604.06174).

    Cost: one more forward of the denoiser per step than ``Full``. Not recommended for the fast backend, which under
    a byte limit recomputes only as much as the limit needs.
    """

    def differentiated(self, num_steps: int) -> Differentiated:
        return Differentiated(checkpointed=True)

    def __str__(self) -> str:
        return "checkpointed"


@dataclass(frozen=True)
class LastSteps(GradientMode):
    """The gradient through the last K steps only (truncated backpropagation; DRaFT-K).

    Cost: K steps instead of all. Biased: the gradient misses the effect of the prompt on the layout in early steps, and
    the start latents get no gradient unless K is the number of steps. Not recommended for finding what images show.

    Args:
        count: K, from 1 to the number of steps.

    Source: Clark et al., DRaFT (arXiv 2309.17400), section 3.
    """

    count: int

    def differentiated(self, num_steps: int) -> Differentiated:
        return Differentiated(first_step=num_steps - _checked_count("last", self.count, num_steps))

    def __str__(self) -> str:
        return f"last:{self.count}"


@dataclass(frozen=True)
class Detached(GradientMode):
    """The denoiser's input latents are constants: g_i = a_i g_{i+1}, and each step adds b_i J_p^T g_{i+1}.

    Cost: all steps, but no backward to the latents of a step. Biased: the gradient misses how each prediction depends
    on its input latents. Not recommended where the exact gradient fits into memory.

    Source: DEXTER (arXiv 2510.14741).
    """

    def differentiated(self, num_steps: int) -> Differentiated:
        return Differentiated(detached=True)

    def __str__(self) -> str:
        return "detached"


@dataclass(frozen=True)
class Shortcut(GradientMode):
    """Different images: the K-th prediction of the clean sample, differentiated through the K-th step only.

    Cost: K forwards and one backward of the denoiser. Biased and blurred: the K-th prediction is not the image that
    the sampler draws. Not recommended for validation.

    Args:
        call: K, from 1 to the number of steps.

    Source: Wang et al., DPO-Diff (arXiv 2407.01606), "shortcut text gradient".
    """

    call: int

    def differentiated(self, num_steps: int) -> Differentiated:
        call = _checked_count("shortcut", self.call, num_steps)
        return Differentiated(first_step=call - 1, calls=call)

    def __str__(self) -> str:
        return f"shortcut:{self.call}"


def parse_gradient(gradient: GradientMode | str) -> GradientMode:
    """Return a mode as it is, or read one from its text.

    Args:
        gradient: a mode, or "full", "checkpointed", "last:K", "detached" or "shortcut:K".

    Raises:
        TypeError: neither a mode nor text.
        ValueError: text of another form.
    """
    if isinstance(gradient, GradientMode):
        return gradient
    if not isinstance(gradient, str):
        raise wrong_type("gradient", _WANTED, gradient)
    plain = {str(mode): mode for mode in (Full(), Checkpointed(), Detached())}
    if gradient in plain:
        return plain[gradient]
    counted = re.fullmatch(r"(last|shortcut):([0-9]+)", gradient)
    if counted is None:
        raise wrong_value("gradient", _WANTED, repr(gradient))
    return (LastSteps if counted[1] == "last" else Shortcut)(int(counted[2]))


def _checked_count(kind: str, number: int, num_steps: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise wrong_type("gradient", f"'{kind}:K' with a whole number K", number)
    if not 1 <= number <= num_steps:
        wanted = f"'{kind}:K' with K of 1 to {num_steps}, the number of steps"
        raise wrong_value("gradient", wanted, repr(f"{kind}:{number}"))
    return number
