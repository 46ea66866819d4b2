"""One HTML page from audits: verdicts, evidence pictures and the table of every target; everything escaped."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diffexplain_fast.report.explanation import inline_png, load_template
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import AuditRow, Interaction, Verdict
from diffexplain_fast.storage import write_bytes_atomic

_SHOWN = 12
"""Rows of a target that are shown; the others fold away."""
_MOST_TARGETS = 60
"""Targets with a section of their own: those with findings come first."""


class TargetSection(NamedTuple):
    """What the template shows of one target."""

    name: str
    verdict: Verdict | None
    rows: list[AuditRow]
    more: list[AuditRow]
    interactions: list[Interaction]
    with_it: list[str]
    without_it: list[str]


class AuditSection(NamedTuple):
    """What the template shows of one audit."""

    classifier: str
    facts: list[str]
    targets: list[TargetSection]
    left_out: int


def render_audits(audits: Sequence[Audit], path: str | Path, title: str) -> Path:
    """Write audits as one HTML file that needs no network.

    Args:
        audits: at least one; shown in this order.
        path: the file; its folder is made if it does not exist.
        title: heading of the page.

    Returns:
        The file.

    Raises:
        StorageError: no space or no permission.
    """
    page = load_template("audit.html").render(title=title, audits=[_section(audit) for audit in audits])
    write_bytes_atomic(path, page.encode(errors="backslashreplace"))  # a label may hold half a surrogate pair
    return Path(path)


def _section(audit: Audit) -> AuditSection:
    names = list(dict.fromkeys(row.target for row in audit.rows))
    found = {row.target for row in audit.rows if row.finding}
    ordered = sorted(names, key=lambda name: name not in found)
    return AuditSection(
        classifier=audit.classifier,
        facts=_facts(audit),
        targets=[_target(audit, name) for name in ordered[:_MOST_TARGETS]],
        left_out=max(0, len(names) - _MOST_TARGETS),
    )


def _facts(audit: Audit) -> list[str]:
    settings = audit.settings
    if "pictures_used" not in settings:
        return ["The difference of two audits: the first minus the second."]
    return [
        f"{settings['pictures_used']} pictures of random captions, one start latent each",
        f"minimal effect {settings['minimal_effect']:g}, false discoveries at most {settings['level']:.0%}",
        f"eye: {settings['eye'] or 'none'}",
    ]


def _target(audit: Audit, name: str) -> TargetSection:
    rows = sorted(
        (row for row in audit.rows if row.target == name),
        key=lambda row: (not row.finding, row.effect != row.effect, -abs(row.effect)),
    )
    verdict = audit.verdicts.get(name)
    pictures = [] if verdict is None else [inline_png(audit.images[place]) for place in verdict.pictures]
    half = len(pictures) // 2
    return TargetSection(
        name=name,
        verdict=verdict,
        rows=rows[:_SHOWN],
        more=rows[_SHOWN:],
        interactions=[pair for pair in audit.interactions if pair.target == name],
        with_it=pictures[:half],
        without_it=pictures[half:],
    )
