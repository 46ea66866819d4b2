"""The ways a sampler may go: the schedule of each spacing of its scheduler, and what of it is differentiated."""

from typing import Any

from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.engine.spacing import Spacing

_KEPT = 32
"""Schedules that are kept; each is a few numbers a step."""


class Courses:
    """Schedules of one scheduler, tabulated when they are first asked for.

    Args:
        scheduler: diffusers scheduler; never changed.
        gradient: see ``DifferentiableSampler``.
    """

    def __init__(self, scheduler: Any, gradient: str) -> None:
        self._scheduler, self._gradient = scheduler, gradient
        self._config = getattr(scheduler, "config", None)
        self._known: dict[Spacing, tuple[Schedule, GradientMode]] = {}

    def over(self, scheduler: Any) -> "Courses":
        """Return courses over a scheduler: these, unless it is another one or was configured anew since.

        Args:
            scheduler: the one that counts now.
        """
        if scheduler is self._scheduler and getattr(scheduler, "config", None) is self._config:
            return self
        return Courses(scheduler, self._gradient)

    def of(self, spacing: Spacing) -> tuple[Schedule, GradientMode]:
        """Return the schedule of a spacing, and what of it is differentiated.

        Raises:
            TypeError: see ``Schedule.from_scheduler`` and ``GradientMode.parse``.
            ValueError: see there.
        """
        if spacing not in self._known:
            schedule = Schedule.from_scheduler(self._scheduler, *spacing)
            mode = GradientMode.parse(self._gradient, len(schedule.steps))
            if mode.calls is not None:
                schedule = schedule.shortened(mode.calls)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[spacing] = schedule, mode
        return self._known[spacing]
