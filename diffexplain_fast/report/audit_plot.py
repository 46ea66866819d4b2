"""The figure of an audit: its strongest effects by class, with their intervals."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from diffexplain_fast.number_texts import NOISE
from diffexplain_fast.report.audit import measured_in
from diffexplain_fast.report.plots import MAIN, SOFT, draw_intervals, new_figure, plain
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import PLACEBO, AuditRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 24
"""Rows that are drawn, of all targets together."""


def plot_audit(audit: Audit) -> "tuple[Figure, dict[str, Axes]]":
    """Draw the strongest effects of an audit, or of the difference of two, by target and with their intervals.

    Findings come first, then the largest of the other effects, 24 rows in all; what could not be measured, and
    placebos, are left out. Of targets and of the rows of each, the strongest come first.

    Args:
        audit: what to draw.

    Returns:
        A figure that no global state holds, and its axes: "effects".

    Raises:
        ImportError: matplotlib is not installed; names the extra.
    """
    rows = _strongest(audit.rows)
    groups = [(target, list(group)) for target, group in groupby(rows, key=lambda row: row.target)]
    names = [name for target, group in groups for name in (target, *(row.concept for row in group))]
    places = list(enumerate(row for _, group in groups for row in (None, *group)))
    figure = new_figure(8, 1.2 + 0.25 * max(len(names), 4))
    axes: dict[str, Axes] = {"effects": figure.subplots()}
    axis = axes["effects"]
    for place, row in places:
        if row is not None:
            axis.barh(place, row.effect, color=MAIN if row.finding else SOFT)
    draw_intervals(axis, [(place, row.low, row.high) for place, row in places if row is not None])
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(names)), [plain(name) for name in names])
    for label, (_, row) in zip(axis.get_yticklabels(), places, strict=True):
        label.set_fontweight("bold" if row is None else "normal")
    axis.set_ylim(max(len(names), 1) - 0.4, -0.8)
    if max(map(abs, axis.get_xlim())) < NOISE:  # an audit minus itself
        axis.set_xlim(-1, 1)
    left_out = len(audit.rows) - len(rows)
    more = f"; {left_out} of {len(audit.rows)} rows are not drawn" if left_out else ""
    axis.set(xlabel=plain(f"{measured_in(audit)}\ngrey: not a finding{more}"), title=plain(audit.classifier))
    return figure, axes


def _strongest(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """Return the rows that are drawn, those of one target beside each other."""
    measured = [row for row in rows if math.isfinite(row.effect) and not row.concept.startswith(f"{PLACEBO}:")]
    shown = sorted(measured, key=lambda row: (not row.finding, -abs(row.effect)))[:_SHOWN]
    targets = list(dict.fromkeys(row.target for row in shown))
    return sorted(shown, key=lambda row: targets.index(row.target))
