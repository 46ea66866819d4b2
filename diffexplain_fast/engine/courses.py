"""The ways a sampler may go: the schedule of each spacing of its scheduler, and what of it is differentiated."""

from typing import TYPE_CHECKING

from diffexplain_fast.engine.gradients import Differentiated, GradientMode
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.engine.spacing import Spacing

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_KEPT = 32
"""Schedules that are kept; each is a few numbers a step."""


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
        """Return courses over a scheduler: these, unless it is another one or was configured anew since.

        Args:
            scheduler: the one that counts now.
        """
        if scheduler is self._scheduler and getattr(scheduler, "config", None) is self._config:
            return self
        return Courses(scheduler, self._gradient)

    def of(self, spacing: Spacing) -> tuple[Schedule, Differentiated]:
        """Return the schedule of a spacing, and what of it is differentiated.

        Raises:
            TypeError: see ``Schedule.from_scheduler`` and ``GradientMode.differentiated``.
            ValueError: see there.
        """
        if spacing not in self._known:
            schedule = Schedule.from_scheduler(self._scheduler, *spacing)
            mode = self._gradient.differentiated(len(schedule.steps))
            if mode.calls is not None:
                schedule = schedule.shortened(mode.calls)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[spacing] = schedule, mode
        return self._known[spacing]
