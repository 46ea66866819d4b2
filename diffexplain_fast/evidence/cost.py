"""What pictures cost and may cost: rows of the denoiser, which mean the same on every machine, and seconds."""

import time
from dataclasses import dataclass, field
from typing import TypedDict

from diffexplain_fast.records import Count, Magnitude
from diffexplain_fast.runs.spending import Limit


class Spent(TypedDict):
    """Rows without and with gradient, and seconds, as a file holds them."""

    forward: Count
    gradient: Count
    seconds: Magnitude


@dataclass
class Cost:
    """What was spent on pictures, and what may be.

    A row is one picture in one denoising step; with guidance a picture has two rows in every step.

    The limit is looked at before every batch of pictures that a search can do without. The best start of each kind is
    validated in any case, and so is the result, because nothing that was found may be lost. So a search exceeds its
    limit by one batch or step, and by these validations.

    Attributes:
        forward: rows without a gradient.
        gradient: rows whose gradient was computed too; one of them takes about as long as two without.
        before: seconds of an interrupted run that goes on here.
        earlier: rows and seconds of earlier explanations that share a budget with this one.
        limit: what this and the earlier explanations may spend together.
        left_out: names of the work that was left out because the limit was reached.
    """

    forward: int = 0
    gradient: int = 0
    before: float = 0.0
    earlier: tuple[int, float] = (0, 0.0)
    limit: Limit = field(default_factory=Limit)
    left_out: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter, repr=False, compare=False)

    @property
    def spent(self) -> tuple[float, float, float]:
        """Rows without a gradient, rows with one, and seconds."""
        return float(self.forward), float(self.gradient), self.before + time.perf_counter() - self._began

    def count(self, rows: int, gradient: bool) -> None:
        """Add rows that are about to be computed."""
        if gradient:
            self.gradient += rows
        else:
            self.forward += rows

    @property
    def rows(self) -> int:
        """All rows."""
        return self.forward + self.gradient

    @property
    def is_at_limit(self) -> bool:
        """Whether nothing is left to spend."""
        rows, seconds = self.limit
        too_many = rows is not None and self.rows + self.earlier[0] >= rows
        return too_many or (seconds is not None and self.spent[2] + self.earlier[1] >= seconds)

    def leaves_out(self, work: str) -> bool:
        """Whether nothing is left to spend, so that some work is left out; its name is remembered."""
        reached = self.is_at_limit
        if reached and work not in self.left_out:
            self.left_out.append(work)
        return reached

    def add(self, forward: float, gradient: float, seconds: float) -> None:
        """Add what was spent before this object was made."""
        self.forward += int(forward)
        self.gradient += int(gradient)
        self.before += seconds

    def record(self) -> Spent:
        """Return what was spent, for a file."""
        forward, gradient, seconds = self.spent
        return Spent(forward=int(forward), gradient=int(gradient), seconds=seconds)
