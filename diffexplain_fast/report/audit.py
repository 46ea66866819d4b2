"""One HTML page from audits: verdicts, evidence pictures and the table of every target; everything escaped."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from diffexplain_fast.number_texts import NOISE
from diffexplain_fast.records import JsonObject
from diffexplain_fast.report.evidence import Card
from diffexplain_fast.report.heat import HeatMap, heat_map, most_points_first
from diffexplain_fast.report.page import Inlined, inline_pictures, section_bytes, write_page
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import INTERVENTION, AuditRow, Interaction, Verdict
from diffexplain_fast.results.decision import Decision
from diffexplain_fast.results.photographs import Photographs
from diffexplain_fast.targets.outputs import REGRESSION, SOFTMAX, UNITS

_SHOWN = 12
"""Rows of a target that are shown; the others fold away."""
_TERMS = (
    *("target", "logit", "log-odds", "interval", "trial effect", "core", "spurious", "suppresses", "undecided"),
    *("not drawable", "answered", "obeyed", "adjusted p", "tipping point", "interaction"),
)
_TERMS_OF_TWO = ("more", "less", "answered difference", "obeyed difference")
_NOTHING = 1e-6
"""Effects up to this part of the minimal effect are no lengths: numbers of 32 bits are rounded there."""
_MOST_TARGETS, _MOST_LINES = 60, 2000
"""Targets with a section of their own, and further ones with a line: those with findings come first."""


class TargetSection(NamedTuple):
    """What the template shows of one target; ``words`` is what the page's filter finds it by, beside its name."""

    name: str
    verdict: Verdict | None
    rows: list[AuditRow]
    more: list[AuditRow]
    interactions: list[Interaction]
    features: list[str]
    with_it: list[Card]
    without_it: list[Card]
    anchor: str
    words: str
    largest: float


class TargetLine(NamedTuple):
    """What the template shows of a target without a section; the fields are those of ``TargetSection``."""

    name: str
    verdict: Verdict | None
    anchor: str
    words: str


class AuditSection(NamedTuple):
    """What the template shows of one audit.

    Attributes:
        outcome: how many findings there are and what is undecided, where a target has no verdict; else "".
        compared: whether it is the difference of two audits.
        drawn: whether a diffusion model drew pictures for it.
        intervened: whether it has rows of interventions.
        interval: what its intervals are called, such as "95 % interval".
        findings: those that move most answers, core ones last; ``all_findings`` is how many there are.
        lines: targets that have no section of their own.
        left_out: number of targets that are not on the page.
        unit: of its effects, such as "logits".
    """

    classifier: str
    facts: list[str]
    outcome: str
    compared: bool
    drawn: bool
    intervened: bool
    interval: str
    unit: str
    decisions: list[Decision]
    photographs: Photographs | None
    findings: list[AuditRow]
    all_findings: int
    heat: HeatMap | None
    targets: list[TargetSection]
    lines: list[TargetLine]
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
    terms = (*_TERMS, *(_TERMS_OF_TWO if any("difference" in audit.settings for audit in audits) else ()))
    with_pictures = [sum(bool(verdict.pictures) for verdict in audit.verdicts.values()) for audit in audits]
    limit = section_bytes(sum(min(count, _MOST_TARGETS) for count in with_pictures))
    sections = [_section(number, audit, limit) for number, audit in enumerate(audits)]
    return write_page("audit.html", path, title, terms, audits=sections)


def _section(number: int, audit: Audit, limit: int) -> AuditSection:
    by_target: dict[str, list[AuditRow]] = {}
    for row in audit.rows:
        by_target.setdefault(row.target, []).append(row)
    ordered = _worst_first(by_target)
    lines = ordered[_MOST_TARGETS : _MOST_TARGETS + _MOST_LINES]
    return AuditSection(
        classifier=audit.classifier,
        facts=_facts(audit),
        outcome=audit.outcome_without_verdict,
        compared="difference" in audit.settings,
        drawn=audit.settings.get("pictures") != 0,
        intervened=any(row.concept.startswith(f"{INTERVENTION}:") for row in audit.rows),
        interval=_interval(audit),
        unit=_unit(audit),
        decisions=[Decision(**one) for one in audit.settings.get("decisions", [])],
        photographs=audit.photographs,
        findings=most_points_first(audit.rows)[:_SHOWN],
        all_findings=len(audit.findings),
        heat=heat_map(audit),
        targets=[
            _target(audit, name, by_target[name], f"target-{number}-{i}", limit)
            for i, name in enumerate(ordered[:_MOST_TARGETS])
        ],
        lines=[
            TargetLine(name, found := audit.verdicts.get(name), f"line-{number}-{i}", _words(found, by_target[name]))
            for i, name in enumerate(lines)
        ],
        left_out=len(ordered) - _MOST_TARGETS - len(lines) if lines else 0,
    )


def _worst_first(by_target: Mapping[str, Sequence[AuditRow]]) -> list[str]:
    """Return the targets with findings before the others; of many, those whose findings lead the page before others."""
    if len(by_target) <= _MOST_TARGETS:
        return sorted(by_target, key=lambda name: not any(row.finding for row in by_target[name]))
    leading = most_points_first([row for rows in by_target.values() for row in rows])
    return [*dict.fromkeys([*(row.target for row in leading), *by_target])]


def _facts(audit: Audit) -> list[str]:
    settings = audit.settings
    if settings.get("pictures") == 0:
        return [f"{settings['own_pictures']} own pictures, each with and without every intervention"]
    if "pictures_used" not in settings:
        asked = ", ".join(settings.get("asking_only", ()))
        only = f"in {asked} effects of asking, where the audits have those of showing: smaller, as words are disobeyed"
        known = "level" in settings  # differences of earlier versions keep those of their audits only
        facts = ["The difference of two audits: the first minus the second"]
        if known:
            facts.append(f"minimal effect {settings['minimal_effect']:g}, {_errors(settings)}, the stricter of the two")
        return [*facts, *([only] if asked else [])]
    return [
        f"{settings['pictures_used']} pictures of random captions, one start latent each",
        *own_objects(audit),
        *effective_size(audit),
        f"minimal effect {settings['minimal_effect']:g}, {_errors(settings)}",
        f"eye: {settings['eye'] or 'none'}",
    ]


def _errors(settings: JsonObject) -> str:
    """Return what an audit says of its false findings, which depends on what it controls."""
    most = f"at most {_percent(settings['level'])}"
    family = settings.get("control") == "family"
    return f"any false finding in {most} of such audits" if family else f"false discoveries {most}"


def _interval(audit: Audit) -> str:
    level = _deciding(audit).get("level")
    return "interval" if level is None else f"{_percent(1 - level)} interval"


def _unit(audit: Audit) -> str:
    """Return the unit of effects; beside classes there may be targets, such as units of a layer, with one of their own.

    Only classes have shares of answers.
    """
    output = str(_deciding(audit).get("output", SOFTMAX))
    classes = {row.target for row in audit.rows if row.answered_with is not None}
    others = output in UNITS and output != REGRESSION and any(row.target not in classes for row in audit.rows)
    unit = UNITS.get(output, "the units of the targets")
    return f"{unit}, of targets that are no classes in their own units" if others else unit


def measured_in(audit: Audit) -> str:
    """Return what the effects of an audit are measured in, and which interval they have, for the axis of a figure."""
    effect = "first effect minus second" if "difference" in audit.settings else "effect"
    return f"{effect} in {_unit(audit)}, {_interval(audit)}"


def _deciding(audit: Audit) -> JsonObject:
    """Return the settings that decided about the rows: of a difference its own, and those of its first audit."""
    compared = audit.settings.get("difference")
    return {**compared[0], **audit.settings} if compared else audit.settings


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def own_objects(audit: Audit) -> list[str]:
    """Return a sentence about the pictures of own objects that some classes got, else nothing."""
    beside = audit.settings.get("pictures_beside") or {}
    return [f"{sum(beside.values())} more of the own objects of {', '.join(beside)}"] if beside else []


def effective_size(audit: Audit) -> list[str]:
    """Return a sentence about the effective number of pictures where a user re-weighted them, else nothing."""
    found = audit.settings.get("effective_pictures")
    return (
        [] if found is None else [f"re-weighted to the user's distribution, worth {found:.0f} pictures of equal weight"]
    )


def _target(audit: Audit, name: str, rows: Sequence[AuditRow], anchor: str, limit: int) -> TargetSection:
    rows = sorted(rows, key=lambda row: (not row.finding, math.isnan(row.effect), -abs(row.effect)))
    verdict = audit.verdicts.get(name)
    pictures = inline_pictures([audit.images[place] for place in verdict.pictures] if verdict else [], limit)
    concept = verdict.concepts[0] if verdict is not None and verdict.concepts else ""
    half = len(pictures) // 2
    return TargetSection(
        name=name,
        verdict=verdict,
        rows=rows[:_SHOWN],
        more=rows[_SHOWN:],
        interactions=[pair for pair in audit.interactions if pair.target == name],
        features=[feature.sentence for feature in audit.found if feature.target == name],
        with_it=_cards(pictures[:half], f"that asks for {concept}"),
        without_it=_cards(pictures[half:], f"that does not ask for {concept}"),
        anchor=anchor,
        words=_words(verdict, rows),
        largest=_largest(rows, _deciding(audit).get("minimal_effect") or 0.0),
    )


def _words(verdict: Verdict | None, rows: Sequence[AuditRow]) -> str:
    """Return what the page's filter finds a target by, beside its name."""
    return " ".join([*([verdict.sentence] if verdict else []), *(row.concept for row in rows if row.finding)])


def _largest(rows: Sequence[AuditRow], minimal: float) -> float:
    """Return what the bars of a target's rows are drawn against; where all are rounding of zero, none has a length."""
    ends = (abs(end) for row in rows for end in (row.effect, row.low, row.high))
    largest = max(filter(math.isfinite, ends), default=0.0)
    return largest if largest > max(NOISE, _NOTHING * minimal) else 1.0


def _cards(pictures: Sequence[Inlined], kind: str) -> list[Card]:
    return [Card(*picture, f"Picture {i} {kind}", "", None) for i, picture in enumerate(pictures, start=1)]
