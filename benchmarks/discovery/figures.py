"""What the benchmarks of an audit share: what a truth says of cells, and how findings compare with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import diffexplain_fast as dx
from diffexplain_fast.evidence.known_truth import Truth
from diffexplain_fast.results.audit_rows import AuditRow

PLANTED, MARGIN = 3.0, 0.4
"""Effect in logits above which a truth is a planted one, and distance from 1 logit at which it is a clear one."""

Row = dict[str, Any]


def roles(truth: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return label and concept to the role that the truth gives it."""
    return {(label, row["attribute"]): row["role"] for label, part in truth.items() for row in part["attributes"]}


def asked_for(audit: dx.Audit) -> list[str]:
    """Return the concepts of an audit."""
    return list(dict.fromkeys(row.concept for row in audit.rows))


def auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Return the area under the ROC curve, None where one of the two kinds is missing."""
    high, low = scores[positive], scores[~positive]
    if not len(high) or not len(low):
        return None
    return float((high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean())


def share(hits: np.ndarray) -> Row:
    """Return a share with its denominator."""
    return {"share": float(hits.mean()) if hits.size else None, "of": int(hits.size)}


def spreads(truth: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return label and concept to half of the interval of the truth, which was measured on 128 scenes."""
    return {
        (label, row["attribute"]): (row["interval"][1] - row["interval"][0]) / 2
        for label, part in truth.items()
        for row in part["attributes"]
    }


def against_truth(
    effect: np.ndarray,
    interval: tuple[np.ndarray, np.ndarray],
    true: np.ndarray,
    found: np.ndarray,
    spurious: np.ndarray,
    delta: float,
) -> Row:
    """Return the figures that every comparison with a truth has, wherever its effects come from.

    Args:
        effect: of every cell.
        interval: lower and upper end of the effect.
        true: the true effect.
        found: bool, whether the effect is a finding.
        spurious: bool, whether the truth calls it spurious.
        delta: minimal effect.
    """
    (low, high), clear = interval, np.abs(true - 1) > MARGIN
    return {
        "cells": len(true),
        "AUC, spurious by truth's role": {"all": auc(effect, spurious), "clear": auc(effect[clear], spurious[clear])},
        "precision, |truth| above the minimal effect": share((true * np.sign(effect))[found] > delta),
        "covered": share((low <= true) & (true <= high)),
        "median half-width": float(np.median((high - low) / 2)),
        "mean |effect - truth|": float(np.abs(effect - true).mean()),
        "planted found": share((found & (effect > 0))[true > PLANTED]),
    }


def compared(
    rows: Sequence[AuditRow],
    truth: Truth,
    role: Mapping[tuple[str, str], str],
    delta: float,
    spread: Mapping[tuple[str, str], float] | None = None,
) -> Row:
    """Return the figures of audits against truth, over all cells of concepts other than the target's own object.

    Args:
        rows: of the audits.
        truth: true effects.
        role: the role that the truth gives a cell.
        delta: minimal effect.
        spread: half of the interval of the truth, which is 0 where it is not known.
    """
    cells = [row for row in rows if (row.target, row.concept) in truth and row.declared_by is None]
    keys = [(row.target, row.concept) for row in cells]
    true, spurious = np.array([truth[key] for key in keys]), np.array([role[key] == "spurious" for key in keys])
    effect, low, high = (np.array([row[name] for row in cells], dtype=float) for name in ("effect", "low", "high"))
    found = np.array([row.finding for row in cells])
    undecided = np.array([row.role == "undecided" for row in cells])
    covered, raised = (low <= true) & (true <= high), found & (effect > 0)
    half, own_half = (high - low) / 2, np.array([(spread or {}).get(key, 0.0) for key in keys])
    nearly = np.abs((low + high) / 2 - true) <= np.hypot(half, own_half)
    groups = np.array([concept.partition(":")[0] for _, concept in keys])
    large = np.abs(true) >= delta + 0.4
    return against_truth(effect, (low, high), true, found, spurious, delta) | {
        "spurious found": share(raised[spurious]),
        "recall, |truth| at least 0.4 above the minimal effect": {
            "raised": share(raised[true >= delta + 0.4]),
            "lowered": share((found & (effect < 0))[true <= -delta - 0.4]),
            "either": share((found & (effect * true > 0))[large]),
            "either, by group": {
                group: share((found & (effect * true > 0))[large & (groups == group)])
                for group in dict.fromkeys(groups.tolist())
            },
        },
        "undecided": share(undecided),
        "slope": float(np.polyfit(true, effect, 1)[0]),
        "correlation": float(np.corrcoef(true, effect)[0, 1]),
        "covered, the truth's own interval counted": share(nearly),
        "covered, findings": share(covered[found]),
        "covered, by group": {group: share(covered[groups == group]) for group in dict.fromkeys(groups.tolist())},
    }
