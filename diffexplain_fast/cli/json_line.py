"""What ``--json`` prints: one object in one line, which any parser of JSON reads."""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from diffexplain_fast.records import Json, JsonObject, as_json
from diffexplain_fast.results.decision import check_condition

if TYPE_CHECKING:
    from diffexplain_fast.results.attribution import Attribution
    from diffexplain_fast.results.audit import Audit
    from diffexplain_fast.results.decision import Decision


_STDOUT: list[TextIO | None] = []
"""Where ``print_json`` prints while nothing else may, the innermost last."""


def print_json(record: Mapping[str, object]) -> None:
    """Print a record as one line of JSON.

    Args:
        record: values that JSON has, numbers of numpy and others, and paths. NaN and infinities, which JSON has not,
            are printed as null.
    """
    stream = _STDOUT[-1] if _STDOUT else sys.stdout
    if stream is not None:  # closed before the start
        print(json.dumps(_finite(as_json(record, "--json")), allow_nan=False), file=stream)


@contextmanager
def only_json() -> Iterator[None]:
    """Send everything that is printed while the context is open to stderr, except what ``print_json`` prints.

    The user's own code may print: a file that is run, the function in it that makes a classifier, or a model.
    """
    _STDOUT.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _STDOUT.pop()


def _finite(value: Json) -> Json:
    """Return a value with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def audit_record(audit: "Audit", decisions: Sequence["Decision"], folder: Path, report: Path) -> JsonObject:
    """Return what a program wants to know of an audit, or of a difference of two.

    Args:
        audit: what was measured.
        decisions: what the conditions of ``--fail-on`` say.
        folder: of the saved audit.
        report: the page.
    """
    return {
        "classifier": audit.classifier,
        "outcome": audit.outcome,
        "findings": [asdict(row) for row in audit.findings],
        "verdicts": {target: asdict(verdict) for target, verdict in audit.verdicts.items()},
        "found": [asdict(feature) | {"sentence": feature.sentence} for feature in audit.found],
        "decisions": [_decision_record(one) for one in decisions],
        "effective_pictures": audit.settings.get("effective_pictures"),
        "rows": [asdict(row) for row in audit.rows],
        "photographs": None if audit.photographs is None else asdict(audit.photographs),
        "folder": str(folder),
        "report": str(report),
    }


def _decision_record(decision: "Decision") -> JsonObject:
    """Return a decision with the parts of its condition."""
    measure, sign, limit = check_condition(decision.condition)
    return asdict(decision) | {"measure": measure, "sign": sign, "limit": limit}


def attribution_record(result: "Attribution", folder: Path, report: Path) -> JsonObject:
    """Return what a program wants to know of an attribution.

    Args:
        result: what was measured.
        folder: of the saved attribution.
        report: the page.
    """
    wanted = ("changes", "before", "after", "flipped", "probability_before", "probability_after")
    flips = [flip and {name: getattr(flip, name) for name in wanted} for flip in result.counterfactuals]
    return {
        "classifier": result.settings.get("classifier"),
        "target": result.target,
        "label": result.label,
        "effects": [asdict(effect) for effect in result.effects],
        "interactions": [asdict(pair) for pair in result.interactions],
        "counterfactuals": flips,
        "audited": None if result.audited is None else asdict(result.audited),
        "not_compared": result.not_compared,
        "unmeasured": result.unmeasured,
        "denoiser_rows": result.denoiser_rows,
        "folder": str(folder),
        "report": str(report),
    }
