"""The bars of an audit: findings against measured truth, ``python -m benchmarks.discovery --pool FOLDER``.

The truth of a classifier of the tiny world was measured on rendered pictures, which no part of an audit ever sees. A
truth effect compares a value with the mean of the other values, in raw logits; it is turned into what an audit
estimates, centred logits against the median of the group, which is exact because all of these are linear in the mean
logits of the values, or a median of them. A missing companion is in no truth, so it is left out of that median.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.known_truth import Truth, audit_truth, has_levels
from diffexplain_fast.recipe.truth import measure_truth
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.storage import read_json, write_json_atomic

RESULT = Path(__file__).parent.parent / "results" / "discovery.json"
MADE: Mapping[str, tuple[Mapping[str, Mapping[str, str]], int]] = {
    "made 1": ({"fish": {"background": "desert"}, "boat": {"colour": "blue"}, "house": {"companion": "sun"}}, 0),
    "made clean": ({}, 0),
    "made 2": (
        {"mushroom": {"texture": "striped"}, "star": {"companion": "nothing"}, "car": {"background": "sea"}},
        1,
    ),
    "made 3": ({"tree": {"background": "night"}, "bird": {"companion": "flag"}, "boat": {"colour": "white"}}, 2),
}
"""Shortcuts and seeds of the classifiers that are trained for the benchmark; the first and the clean one are those of
the prototype."""
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
    planted, clear = true > PLANTED, np.abs(true - 1) > MARGIN
    covered, raised = (low <= true) & (true <= high), found & (effect > 0)
    half, own_half = (high - low) / 2, np.array([(spread or {}).get(key, 0.0) for key in keys])
    nearly = np.abs((low + high) / 2 - true) <= np.hypot(half, own_half)
    groups = np.array([concept.partition(":")[0] for _, concept in keys])
    large = np.abs(true) >= delta + 0.4
    return {
        "cells": len(cells),
        "AUC, spurious by truth's role": {"all": auc(effect, spurious), "clear": auc(effect[clear], spurious[clear])},
        "precision, |truth| above the minimal effect": share((true * np.sign(effect))[found] > delta),
        "planted found": share(raised[planted]),
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
        "mean |effect - truth|": float(np.abs(effect - true).mean()),
        "slope": float(np.polyfit(true, effect, 1)[0]),
        "correlation": float(np.corrcoef(true, effect)[0, 1]),
        "covered": share(covered),
        "covered, the truth's own interval counted": share(nearly),
        "covered, findings": share(covered[found]),
        "covered, by group": {group: share(covered[groups == group]) for group in dict.fromkeys(groups.tolist())},
        "median half-width": float(np.median((high - low) / 2)),
    }


def audited(name: str, classifier: dx.Classifier, pictures: int, pool: Path, seed: int) -> tuple[dx.Audit, Row]:
    """Audit a classifier; return the audit and what it took, in CPU seconds of this process."""
    pairs: list[float] = []

    def heard(event: Progress) -> None:
        if event.phase == "pairs":
            pairs.append(time.process_time())

    with dx.Explainer("tinyworld", classifier, seed=seed) as explainer:
        began = time.process_time()
        audit = explainer.audit(pictures=pictures, pool=pool, callback=heard)
        cost = time.process_time() - began
    table = cost - (pairs[-1] - pairs[0] if pairs else 0.0)
    drawn = audit.settings["pictures_drawn"]
    print(
        f"{name}: {audit.settings['pictures_used']} pictures, {drawn} drawn, {cost:.1f} CPU seconds, "
        f"{table:.1f} without the fresh pictures of pairs",
        flush=True,
    )
    return audit, {
        "CPU seconds": cost,
        "CPU seconds of the context table": table,
        "pictures drawn": drawn,
        "pictures used": audit.settings["pictures_used"],
    }


def measured_truths(path: Path | None, classifiers: Mapping[str, dx.Classifier]) -> Row:
    """Return the truths of a file; where there is none yet, those of classifiers that ship with an older truth.

    An older truth averages over the objects as they come, and an audit over the own object present and absent, so that
    the two say the same only of a classifier whose effects do not depend on its object.
    """
    if path is None:
        return {}
    if not path.exists():
        older = {name: one for name, one in classifiers.items() if one.truth and not has_levels(one.truth)}
        write_json_atomic(path, {name: measure_truth(one, torch.device("cpu")) for name, one in older.items()})
    found: Row = read_json(path)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--pool", type=Path, required=True, help="folder of the pictures, new or of an earlier run")
    parser.add_argument("--made", type=int, default=len(MADE), help="how many classifiers to train, a minute each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument(
        "--truths",
        type=Path,
        help="JSON of classifier to truth, in place of what ships with each; "
        "if there is no such file, truths that ship without levels are measured anew, a minute each, and written there",
    )
    given = parser.parse_args()
    classifiers = {name: dx.Classifier.from_pretrained(f"tinyworld/{name}") for name in tinyworld.classifier_names()}
    for name in list(MADE)[: given.made]:
        classifiers[name] = tinyworld.make_classifier(MADE[name][0], seed=MADE[name][1])
    measured = measured_truths(given.truths, classifiers)
    everything: list[AuditRow] = []
    truths: Truth = {}
    known: dict[tuple[str, str], str] = {}
    widths: dict[tuple[str, str], float] = {}
    result: Row = {"pictures": given.pictures, "classifiers": {}}
    for name, classifier in classifiers.items():
        audit, cost = audited(name, classifier, given.pictures, given.pool, given.seed)
        found = measured.get(name, classifier.truth)
        truth, role = audit_truth(found, asked_for(audit)), roles(found)
        delta = audit.settings["minimal_effect"]
        verdicts = {target: verdict.kind for target, verdict in audit.verdicts.items()}
        pairs = [f"{one.target}: {one.concept_a} {one.kind} {one.concept_b}" for one in audit.interactions]
        row = {"cost": cost, "verdicts": verdicts, "pairs": pairs, "generator": audit.settings["generator_error"]}
        row["phrasing"] = audit.settings["phrasing_error"]
        result["classifiers"][name] = row | compared(audit.rows, truth, role, delta, spreads(found))
        renamed = [(f"{name}/{key[0]}", key[1]) for key in truth]
        truths |= dict(zip(renamed, truth.values(), strict=True))
        known |= {(f"{name}/{label}", concept): one for (label, concept), one in role.items()}
        widths |= {(f"{name}/{label}", concept): one for (label, concept), one in spreads(found).items()}
        everything += [replace(row, target=f"{name}/{row.target}") for row in audit.rows]
    result["all"] = compared(everything, truths, known, delta, widths)
    result |= {"versions": versions(), "device": device_record()}
    write_json_atomic(given.out, result)
    print(f"all: {result['all']}")


if __name__ == "__main__":
    main()
