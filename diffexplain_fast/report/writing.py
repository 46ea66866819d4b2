"""The door of this room: one function writes results as a page, one draws a result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffexplain_fast.errors import wrong_type
from diffexplain_fast.report.attribution import plot_attribution, render_attributions
from diffexplain_fast.report.audit import render_audits
from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.report.plots import plot_explanation
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.drawn import Drawn
from diffexplain_fast.results.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = "What does the classifier look for?"
_AUDIT_TITLE = "What does the classifier answer to?"


def write_report(results: Drawn | Sequence[Drawn], path: str | Path, *, title: str = _TITLE) -> Path:
    """Write results as one HTML file that needs no network.

    Args:
        results: one result or several of one kind, shown in this order.
        path: the file; its folder is created if it does not exist.
        title: heading of the page.

    Returns:
        The file.

    Raises:
        TypeError: a value that is not a result, or results of different kinds.
        ValueError: no result.
        StorageError: no space or no permission.
    """
    sequence = [results] if isinstance(results, Drawn) else results
    if not isinstance(sequence, Sequence) or isinstance(sequence, str | bytes):
        raise wrong_type("results", "a result, or a sequence of results", results)
    if attributions := [result for result in sequence if isinstance(result, Attribution)]:
        if len(attributions) < len(sequence):
            raise wrong_type("results", "results of one kind on a page", sequence[0])
        return render_attributions(attributions, path, title)
    audits = [result for result in sequence if isinstance(result, Audit)]
    if audits and len(audits) == len(sequence):
        return render_audits(audits, path, _AUDIT_TITLE if title == _TITLE else title)
    return render_report([_explanation(result) for result in sequence], path, title)


def plot(result: Drawn) -> "tuple[Figure, dict[str, Axes]]":
    """Draw a result with matplotlib.

    Args:
        result: an explanation, or an attribution.

    Returns:
        A figure that pyplot does not hold, and its axes by name: "images", "activation" and "loss"; of an attribution
        "effects".

    Raises:
        TypeError: something that is not a result.
        ImportError: matplotlib is not installed; names the extra.
    """
    return plot_attribution(result) if isinstance(result, Attribution) else plot_explanation(_explanation(result))


def _explanation(result: object) -> Explanation:
    if not isinstance(result, Explanation):
        raise wrong_type("results", "an Explanation or an Attribution", result)
    return result
