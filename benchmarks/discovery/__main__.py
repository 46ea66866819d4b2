"""The bars of an audit: findings against measured truth, ``python -m benchmarks.discovery --pool FOLDER``.

The truth of a classifier of the tiny world was measured on rendered pictures, which no part of an audit ever sees. A
truth effect compares a value with the mean of the other values, in raw logits; it is turned into what an audit
estimates, centred logits against the median of the group, which is exact because all of these are linear in the mean
logits of the values, or a median of them. A missing companion is in no truth, so it is left out of that median.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

import diffexplain_fast as dx
from benchmarks.discovery.figures import Row, asked_for, compared, roles, spreads
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
