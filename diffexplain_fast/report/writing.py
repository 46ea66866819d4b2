"""The door of this room: one function writes results as a page, one draws a result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffexplain_fast.errors import wrong_type
from diffexplain_fast.report.attribution import plot_attribution, render_attributions
from diffexplain_fast.report.audit import effective_size, render_audits
from diffexplain_fast.report.evidence import evidence_of
from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.report.page import load_template
from diffexplain_fast.report.plots import plot_explanation
from diffexplain_fast.report.sentences import summarise_explanation
from diffexplain_fast.results.attribution import Attribution, interval_text
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.drawn import Drawn
from diffexplain_fast.results.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = "What does the classifier look for?"
_SENTENCES = 12
"""Verdicts of an audit that its summary repeats."""
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
        TypeError: a value that is not a result, results of different kinds, or a file that is no path.
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


def summarise(result: Drawn) -> str:
    """Return what a result says, in a few lines.

    Args:
        result: an explanation or an audit.

    Raises:
        TypeError: another value.
    """
    if isinstance(result, Audit):
        said = [verdict.sentence for verdict in result.verdicts.values()]
        found = f"Audit of {result.classifier}: {len(result.findings)} findings in {len(result.rows)} rows"
        more = [f"... and {len(said) - _SENTENCES} verdicts more"] if len(said) > _SENTENCES else []
        return "\n  ".join([found, *effective_size(result), *said[:_SENTENCES], *more])
    if isinstance(result, Attribution):
        strongest = [
            f"{row.concept}: {row.effect:+.2f} "
            + ("(screened only, not edited)" if row.screened else interval_text(row))
            for row in result.effects
        ]
        found = f"Attribution of {result.label or result.target} on {len(result.images)} pictures; effects:"
        return "\n  ".join([found, *strongest[:_SENTENCES], *filter(None, [result.unmeasured])])
    return summarise_explanation(_explanation(result))


def notebook_view(result: Drawn) -> str:
    """Return the summary of a result as HTML for a notebook, with the pictures of an explanation.

    Args:
        result: an explanation or an audit.

    Raises:
        TypeError: another value.
    """
    cards = evidence_of(result).drawn if isinstance(result, Explanation) else []
    return load_template("card.html").render(lines=summarise(result).splitlines(), cards=cards)


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
