"""The methods by which every result draws itself: the only place where a value calls the report room."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Drawn:
    """A result that draws itself; ``report`` is imported at first use."""

    def summary(self) -> str:
        """Return what the result says, in a few lines: verdicts, numbers and time."""
        from diffexplain_fast.report.writing import summarise

        return summarise(self)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """Return the summary for a notebook, for an explanation with its pictures."""
        from diffexplain_fast.report.writing import notebook_view

        return notebook_view(self)

    def plot(self) -> "tuple[Figure, dict[str, Axes]]":
        """Draw the result with matplotlib.

        An explanation draws its pictures, scores and loss ("images", "activation", "loss"); an attribution the effect
        of every concept, and an audit, or the difference of two, the strongest effects by target, with their intervals
        ("effects").

        Returns:
            Figure that pyplot does not hold, and its axes by name.

        Raises:
            ImportError: matplotlib is not installed; names the extra.
        """
        from diffexplain_fast.report.writing import plot

        return plot(self)

    def report(self, path: str | Path) -> Path:
        """Write one HTML file that needs no network.

        Args:
            path: the file.

        Returns:
            The file.

        Raises:
            TypeError: a file that is no path.
            StorageError: no space or no permission.
        """
        from diffexplain_fast.report.writing import write_report

        return write_report([self], path)
