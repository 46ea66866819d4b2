"""Which timesteps of a diffusers scheduler a sampler takes: a number of them, or all of them by value."""

import inspect
import math
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

from diffexplain_fast.errors import wrong_type, wrong_value

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_BY_VALUE = ("timesteps", "sigmas")


class Spacing(NamedTuple):
    """How the steps of a sampler are chosen; one of the three decides.

    Attributes:
        num_inference_steps: number of steps, spaced by the scheduler.
        timesteps: the timesteps themselves, from the noisiest to the cleanest; None for those of the scheduler.
        sigmas: the noise levels, one more than there are steps; None for those of the scheduler.
    """

    num_inference_steps: int
    timesteps: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None

    @classmethod
    def of(cls, num_inference_steps: object, timesteps: object = None, sigmas: object = None) -> "Spacing":
        """Return a spacing from a caller's arguments; as in diffusers, values overrule the number of steps.

        Raises:
            TypeError: not a whole number, or not a sequence of numbers.
            ValueError: both timesteps and sigmas, or values that are not finite.
        """
        if not isinstance(num_inference_steps, Integral) or isinstance(num_inference_steps, bool):
            raise wrong_type("num_inference_steps", "a whole number", num_inference_steps)
        if timesteps is not None and sigmas is not None:
            raise wrong_value("timesteps", "None where sigmas are passed", "both")
        return cls(int(num_inference_steps), _numbers("timesteps", timesteps), _numbers("sigmas", sigmas))

    def changed(self, num_inference_steps: object, timesteps: object, sigmas: object) -> "Spacing":
        """Return the spacing of one call: this spacing if all three arguments are None; see ``of``."""
        if num_inference_steps is None and timesteps is None and sigmas is None:
            return self
        return Spacing.of(self.steps if num_inference_steps is None else num_inference_steps, timesteps, sigmas)

    @property
    def steps(self) -> int:
        """Number of steps."""
        if self.timesteps is not None:
            return len(self.timesteps)
        return self.num_inference_steps if self.sigmas is None else len(self.sigmas) - 1

    def record(self) -> dict[str, str]:
        """Return timesteps or sigmas that were passed by value, as text for a result's settings."""
        pairs = zip(_BY_VALUE, (self.timesteps, self.sigmas), strict=True)
        return {name: " ".join(f"{value:g}" for value in values) for name, values in pairs if values is not None}

    def apply(self, scheduler: "SchedulerMixin") -> None:
        """Set these steps on a scheduler, which is a copy of the caller's.

        Raises:
            ValueError: the scheduler has fewer steps, or does not take such values.
        """
        config = scheduler.config
        for name, values in zip(_BY_VALUE, (self.timesteps, self.sigmas), strict=True):
            if values is not None:
                _set_values(scheduler, name, values)
                return
        most = min(config.num_train_timesteps, config.get("original_inference_steps", config.num_train_timesteps))
        if not 1 <= self.num_inference_steps <= most:
            raise wrong_value("num_inference_steps", f"1 to {most} for this scheduler", self.num_inference_steps)
        scheduler.set_timesteps(self.num_inference_steps)


def _numbers(name: str, values: object) -> tuple[float, ...] | None:
    if values is None:
        return None
    numbers = values.tolist() if hasattr(values, "tolist") else values  # of a tensor or an array
    if not isinstance(numbers, Sequence) or not all(_is_number(value) for value in numbers):
        raise wrong_type(name, "a sequence of numbers", values)
    if not numbers or not all(math.isfinite(value) for value in numbers):
        raise wrong_value(name, "at least one finite number", list(numbers))
    return tuple(numbers)


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool | str)


def _set_values(scheduler: "SchedulerMixin", name: str, values: tuple[float, ...]) -> None:
    kind, config = type(scheduler).__name__, scheduler.config
    if name not in inspect.signature(scheduler.set_timesteps).parameters:
        raise wrong_value(name, f"None for {kind}, whose set_timesteps takes no {name}", f"{len(values)} of them")
    if name == "timesteps":
        last = config.num_train_timesteps - 1
        if not all(0 <= value <= last for value in values):
            raise wrong_value(name, f"numbers from 0 to {last}, the steps of the training", list(values))
        if kind != "EulerDiscreteScheduler" and not all(float(value).is_integer() for value in values):
            raise wrong_value(name, f"whole numbers for {kind}", list(values))
    elif len(values) < 2 or values[-1] < 0 or not all(value > 0 for value in values[:-1]):
        wanted = "a noise level above 0 for each step, and one of at least 0 after the last"
        raise wrong_value(name, wanted, list(values))
    try:
        scheduler.set_timesteps(**{name: list(values)})
    except ValueError as error:  # such as Karras' spacing, which leaves no choice
        raise wrong_value(name, f"values that {kind}.set_timesteps takes", error) from error
