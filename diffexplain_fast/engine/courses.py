"""The schedules of a sampler, one for each spacing of its steps, and the part of each that is differentiated."""

from typing import TYPE_CHECKING

from torch import Tensor

from diffexplain_fast.engine.gradients import Differentiated, GradientMode
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.engine.spacing import Spacing

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_MOST_SCHEDULES = 32
"""Most schedules that are remembered; each is a few numbers per step."""
_READ = ("alphas_cumprod", "final_alpha_cumprod", "lambda_t", "init_noise_sigma")
"""Attributes of a scheduler that a schedule is computed from; ``set_timesteps`` and ``step`` change others only."""


class Courses:
    """Schedules of one scheduler, tabulated when they are first asked for.

    Args:
        scheduler: diffusers scheduler; never changed.
        gradient: how the loop is differentiated.
    """

    def __init__(self, scheduler: "SchedulerMixin", gradient: GradientMode) -> None:
        self._scheduler, self._gradient = scheduler, gradient
        self._state = _state(scheduler)
        self._known: dict[Spacing, tuple[Schedule, Differentiated]] = {}

    def over(self, scheduler: "SchedulerMixin") -> "Courses":
        """Return these courses if the scheduler, its methods, options and tables are still the same, else new ones.

        Args:
            scheduler: the scheduler that the pipeline has now.
        """
        now = _state(scheduler)
        if len(now) == len(self._state) and all(map(_same, now, self._state)):
            return self
        return Courses(scheduler, self._gradient)

    def of(self, spacing: Spacing) -> tuple[Schedule, Differentiated]:
        """Return the schedule of a spacing, and the part of the schedule that is differentiated.

        Raises:
            TypeError: see ``Schedule.from_scheduler`` and ``GradientMode.differentiated``.
            ValueError: as those.
        """
        if spacing not in self._known:
            schedule = Schedule.from_scheduler(self._scheduler, *spacing)
            mode = self._gradient.differentiated(len(schedule.steps))
            if mode.calls is not None:
                schedule = schedule.shortened(mode.calls)
            if len(self._known) >= _MOST_SCHEDULES:
                self._known.clear()
            self._known[spacing] = schedule, mode
        return self._known[spacing]


def _state(scheduler: "SchedulerMixin") -> list[tuple[object, int]]:
    """Return all that decides a scheduler's steps, each with its number of changes in place."""
    values = getattr(scheduler, "__dict__", {})
    everywhere = (values, *map(vars, type(scheduler).__mro__))
    methods = [value for part in everywhere for value in part.values() if callable(value)]
    read = [scheduler, getattr(scheduler, "config", None), *methods, *(values.get(name) for name in _READ)]
    return [(value, value._version if isinstance(value, Tensor) and not value.is_inference() else 0) for value in read]


def _same(now: tuple[object, int], before: tuple[object, int]) -> bool:
    return now[0] is before[0] and now[1] == before[1]
