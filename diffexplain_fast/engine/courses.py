"""The schedules of a sampler, one for each spacing of its steps, and the part of each that is differentiated."""

from typing import TYPE_CHECKING

from diffexplain_fast.engine.gradients import Differentiated, GradientMode
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.engine.spacing import Spacing

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_MOST_SCHEDULES = 32
"""Most schedules that are remembered; each is a few numbers per step."""


class Courses:
    """Schedules of one scheduler, tabulated when they are first asked for.

    Args:
        scheduler: diffusers scheduler; never changed.
        gradient: how the loop is differentiated.
    """

    def __init__(self, scheduler: "SchedulerMixin", gradient: GradientMode) -> None:
        self._scheduler, self._gradient = scheduler, gradient
        self._config = getattr(scheduler, "config", None)
        self._known: dict[Spacing, tuple[Schedule, Differentiated]] = {}

    def over(self, scheduler: "SchedulerMixin") -> "Courses":
        """Return these courses if the scheduler and its configuration are still the same, else new ones.

        Args:
            scheduler: the scheduler that the pipeline has now.
        """
        if scheduler is self._scheduler and getattr(scheduler, "config", None) is self._config:
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
