"""What may be spent on drawing pictures, and what of it is kept back."""

import time
from dataclasses import dataclass, field

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.runs.spending import read_limit


@dataclass
class Budget:
    """What may be spent on drawing.

    Attributes:
        models: whose rows are counted.
        rows: of the denoiser, None for no limit.
        seconds: of wall-clock time, None for no limit.
        used_up: whether something was left out for it.
        kept: number of a picture to the rows that are kept back for its redraws.
    """

    models: LatentModels
    rows: int | None = None
    seconds: float | None = None
    used_up: bool = False
    kept: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = time.perf_counter()
        self._looked, self._seconds_a_row = (self._began, self.models.denoiser_rows), 0.0

    @classmethod
    def of(cls, models: LatentModels, given: object) -> "Budget":
        """Return the budget that a caller wrote; see ``read_limit``."""
        limit = read_limit(given)
        return cls(models, limit.rows, limit.seconds)

    def late_by(self, seconds: float) -> None:
        """Count time that an interrupted run has spent before."""
        self._began -= seconds
        self._looked = self._looked[0] - seconds, self._looked[1]

    def release(self, picture: int) -> int:
        """Return the rows that are kept back for the redraws of a picture, and no longer keep them back."""
        return self.kept.pop(picture, 0)

    def require(self, rows: int) -> None:
        """Refuse a budget that does not even allow the rows of a first edit.

        Raises:
            ValueError: see above; the message says how many rows are needed.
        """
        if not self.allows(rows):
            wanted = f"enough for the caption and one edit, which take {self.models.denoiser_rows + rows} rows"
            raise wrong_value("budget", wanted, self.rows if self.seconds is None else f"{self.seconds} s")

    def at_once(self, jobs: int) -> int:
        """Return how many of some edits are made before a time is looked at again; all of them without one."""
        if self.seconds is None:
            return jobs
        return min(jobs, self.models.rows if self.models.denoiser_rows else 1)

    def allows(self, rows: int) -> bool:
        """Return whether so many more rows may be run beside those kept back, and remember where they may not.

        The time that rows will take is guessed from that of the latest ones; before the first row it is not known.
        """
        done, kept = self.models.denoiser_rows, sum(self.kept.values())
        seconds = self._passed() + self._seconds_a_row * (rows + kept)
        spent = self.rows is not None and done + rows + kept > self.rows
        late = self.seconds is not None and seconds > self.seconds
        self.used_up = self.used_up or spent or late
        return not (spent or late)

    def _passed(self) -> float:
        """Return the seconds since the beginning, and remember how long the rows since the last time took."""
        now, done = time.perf_counter(), self.models.denoiser_rows
        if done > self._looked[1]:
            self._seconds_a_row = (now - self._looked[0]) / (done - self._looked[1])
        self._looked = now, done
        return now - self._began
