"""The door of this room: one function writes results as a page, one draws a result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffexplain_fast.errors import describe, wrong_type
from diffexplain_fast.number_texts import isolated
from diffexplain_fast.report.attribution import plot_attribution, render_attributions
from diffexplain_fast.report.audit import effective_size, render_audits
from diffexplain_fast.report.audit_plot import plot_audit
from diffexplain_fast.report.evidence import evidence_of
from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.report.page import load_template
from diffexplain_fast.report.plots import plot_explanation
from diffexplain_fast.report.sentences import summarise_explanation
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.drawn import Drawn
from diffexplain_fast.results.effects import note_of, said_of
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.targets import shown_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = "What does the classifier look for?"
_SENTENCES = 12
"""Verdicts of an audit, or effects of an attribution, that its summary repeats."""
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
    kinds = dict.fromkeys(type(_result(result)).__name__ for result in sequence)
    attributions = [result for result in sequence if isinstance(result, Attribution)]
    if attributions and len(attributions) == len(sequence):
        return render_attributions(attributions, path, title)
    audits = [result for result in sequence if isinstance(result, Audit)]
    if audits and len(audits) == len(sequence):
        return render_audits(audits, path, _AUDIT_TITLE if title == _TITLE else title)
    explanations = [result for result in sequence if isinstance(result, Explanation)]
    if len(explanations) < len(sequence):
        raise TypeError(describe("results", "results of one kind on a page", " and ".join(kinds)))
    return render_report(explanations, path, title)


def summarise(result: Drawn) -> str:
    """Return what a result says, in a few lines.

    Args:
        result: an explanation, an attribution or an audit.

    Raises:
        TypeError: another value.
    """
    result = _result(result)
    if isinstance(result, Audit):
        said = [verdict.sentence for verdict in result.verdicts.values()]
        found = f"Audit of {result.classifier}: {len(result.findings)} findings in {len(result.rows)} rows"
        outcome = [*filter(None, [result.outcome_without_verdict])]
        return "\n  ".join([found, *effective_size(result), *outcome, *_first(said, "verdicts")])
    if isinstance(result, Attribution):
        ordered = sorted(result.effects, key=lambda row: not row.n)  # what no edit was verified of comes last
        effects = [f"{isolated(row.concept)}: {' '.join(said_of(row))}{note_of(row)}" for row in ordered]
        pictures = f"{len(result.images)} picture{'' if len(result.images) == 1 else 's'}"
        found = f"Attribution of {shown_target(result.target, result.label)} on {pictures}; effects:"
        told = [] if result.audited is None else result.audited.sentences
        return "\n  ".join(
            [found, *_first(effects, "concepts"), *told, *filter(None, [result.not_compared, result.unmeasured])]
        )
    return summarise_explanation(result)


def _first(lines: Sequence[str], what: str) -> list[str]:
    """Return the first lines, and how many more there are."""
    more = len(lines) - _SENTENCES
    return [*lines[:_SENTENCES], *([f"... and {more} {what} more"] if more > 0 else [])]


def notebook_view(result: Drawn) -> str:
    """Return the summary of a result as HTML for a notebook, with the pictures of an explanation.

    Args:
        result: an explanation, an attribution or an audit.

    Raises:
        TypeError: another value.
    """
    cards = evidence_of(result).drawn if isinstance(result, Explanation) else []
    return load_template("card.html").render(lines=summarise(result).splitlines(), cards=cards)


def plot(result: Drawn) -> "tuple[Figure, dict[str, Axes]]":
    """Draw a result with matplotlib.

    Args:
        result: an explanation: pictures, scores and loss; an attribution: the effect of every concept; or an audit, or
            the difference of two: the strongest effects by target. Effects have their intervals.

    Returns:
        A figure that pyplot does not hold, and its axes by name: "images", "activation" and "loss" of an explanation;
        "effects" of the others.

    Raises:
        TypeError: something that is not a result.
        ImportError: matplotlib is not installed; names the extra.
    """
    shown = _result(result)
    if isinstance(shown, Audit):
        return plot_audit(shown)
    return plot_attribution(shown) if isinstance(shown, Attribution) else plot_explanation(shown)


def _result(result: object) -> Explanation | Attribution | Audit:
    if not isinstance(result, Explanation | Attribution | Audit):
        raise wrong_type("results", "an Explanation, an Attribution or an Audit", result)
    return result
