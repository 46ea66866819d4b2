"""One HTML file from explanations: verdict, evidence, table and details of each; no network, everything escaped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.report.evidence import Evidence, evidence_of
from diffexplain_fast.report.page import SECTION_BYTES, section_bytes, write_page
from diffexplain_fast.report.plots import Curve, fit_curve
from diffexplain_fast.report.rows import ScoreRow, score_rows
from diffexplain_fast.report.sentences import (
    Verdict,
    describe_outcome,
    has_independent_classes,
    is_number,
    nearest_words,
    verdict_of,
)
from diffexplain_fast.report.steps import describe_steps, moving_steps, steps_without_gradient
from diffexplain_fast.report.truth import TruthRow, truth_rows
from diffexplain_fast.results.explanation import Explanation, Word
from diffexplain_fast.targets import shown_target

__all__ = ["build_section", "describe_outcome", "describe_steps", "nearest_words", "render_report"]

CURVE_WIDTH, CURVE_HEIGHT = 300, 110
_SHOWN_TRUTHS = 6
"""Number of the strongest attributes that are shown besides those with a role; the others are folded away."""
_TERMS = (
    *("target", "token", "similarity", "noise", "unseen", "name", "share", "interval", "probability", "logit"),
    *("log-odds", "output", "effect", "core", "spurious", "gradient", "loss"),
)


class NamedWord(NamedTuple):
    """A word near a soft token, and the role that the truth gives to an attribute of that name ("" if none)."""

    word: str
    similarity: float
    role: str


class Headings(NamedTuple):
    """The headings of the columns of a section.

    Attributes:
        share: after "share", the answer that counts.
        no_rate: the text in place of missing rates.
        mean: name of the mean number, such as "logit".
        mean_term: key of the glossary that explains it.
        scale: key of the glossary that explains the scale of effects.
    """

    share: str
    no_rate: str
    mean: str
    mean_term: str
    scale: str


class Section(NamedTuple):
    """The values of one explanation that the template shows."""

    anchor: str
    classifier: str
    title: str
    target: str
    verdict: Verdict
    evidence: Evidence
    words: list[list[NamedWord]]
    coloured: bool
    scores: list[ScoreRow]
    rated: bool
    curve: Curve | None
    steps: str
    seconds: float
    headings: Headings
    truth: list[TruthRow]
    more_truth: list[TruthRow]
    zero: float
    settings: str


def render_report(
    explanations: Sequence[Explanation], path: str | Path, title: str = "What does the classifier look for?"
) -> Path:
    """Write explanations as one HTML file that needs no network.

    Args:
        explanations: at least one; shown in this order.
        path: the file; its folder is created if it does not exist.
        title: heading of the page.

    Returns:
        The file.

    Raises:
        ValueError: no explanation.
        StorageError: no space or no permission.
    """
    if not explanations:
        raise wrong_value("results", "at least one", "none")
    named = [(one, i) for first in explanations for i, one in enumerate([first, *first.others], start=1)]
    limit = section_bytes(len(named))
    sections = [build_section(one, number, mode, limit) for number, (one, mode) in enumerate(named, start=1)]
    size = {"width": CURVE_WIDTH, "height": CURVE_HEIGHT}
    return write_page("report.html", path, title, _TERMS, sections=sections, **size)


def build_section(explanation: Explanation, number: int, mode: int = 1, limit: int = SECTION_BYTES) -> Section:
    """Return the values of an explanation that the template shows.

    Args:
        explanation: the explanation.
        number: its position in the report, from 1.
        mode: its position among several explanations of the same target, from 1.
        limit: bytes that its pictures may have in the file.
    """
    rows, zero = truth_rows(explanation.truth or {})
    roles = {row.value.lower(): row.role for row in rows if row.role != "none"}
    shown = [row for i, row in enumerate(rows) if row.role != "none" or i < _SHOWN_TRUTHS]
    losses = [item.loss for item in explanation.history]
    drawn = moving_steps(explanation) or steps_without_gradient(explanation)
    words = [[_name_role(word, roles) for word in token] for token in explanation.words]
    scores = score_rows(explanation)
    return Section(
        anchor=f"explanation-{number}",
        classifier=str(explanation.settings.get("classifier", "")),
        title=shown_target(explanation.target, explanation.label) + (f", explanation {mode}" if mode > 1 else ""),
        target=explanation.target,
        verdict=verdict_of(explanation),
        evidence=evidence_of(explanation, limit),
        words=words,
        coloured=any(word.role for token in words for word in token),
        scores=scores,
        rated=any(row.score.rate is not None for row in scores),
        curve=fit_curve(losses, CURVE_WIDTH, CURVE_HEIGHT) if drawn else None,
        steps=describe_steps(explanation),
        seconds=sum(item.seconds for item in explanation.history),
        headings=_headings(explanation),
        truth=shown,
        more_truth=[row for row in rows if row not in shown],
        zero=zero,
        settings=json.dumps(explanation.settings, indent=1, ensure_ascii=False, default=str),
    )


def _headings(explanation: Explanation) -> Headings:
    if is_number(explanation):
        return Headings("", "The target is a number, and a number has no rate.", "output", "output", "output")
    independent = has_independent_classes(explanation)
    yes = "with a probability above 0.5 of" if independent else "answered"
    scale = "log-odds" if independent else "logit"
    other = any(score.mean_score is not None for score in explanation.activation.values())
    mean, term = ("score", "target") if explanation.label is None or other else (scale, scale)
    share = f"{yes} “{explanation.label or explanation.target}”"  # what counts as a hit, also for a sum
    return Headings(share, "The target is not a class, so its pictures have no rate.", mean, term, scale)


def _name_role(word: Word, roles: dict[str, str]) -> NamedWord:
    return NamedWord(word.word, word.similarity, roles.get(word.word.lower(), ""))
