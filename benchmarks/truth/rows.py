"""The rows of the suite: one for the truth of every classifier, one for every classifier and method.

A row belongs to a world, that is to the weights that ship; rows of another world are passed over.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.discovery.figures import roles, spreads
from benchmarks.truth.answers import DIGITS, Answer
from benchmarks.truth.cells import REINITIALISED, RESCALED, Cell, Planned, classifier_of
from benchmarks.truth.described import values_on
from benchmarks.truth.methods import METHODS
from benchmarks.truth.subjects import Subject
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.known_truth import audit_truth
from diffexplain_fast.measuring.bench.rows import append_rows, kept_rows
from diffexplain_fast.recipe.truth import measure_truth
from diffexplain_fast.results.truth import DECISIVE
from diffexplain_fast.storage import MANIFEST, sha256_file
from diffexplain_fast.tinyworld.store import WEIGHTS
from diffexplain_fast.tinyworld.words import OBJECTS

TRUTH = "truth"
"""Method of the rows that hold what is known."""
Row = dict[str, Any]


def world() -> str:
    """Return a short name of the weights that ship."""
    return sha256_file(WEIGHTS / MANIFEST)[:12]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of this world; none if there is no file."""
    here = world()
    return [row for row in kept_rows(path) if row["world"] == here]


def missing(planned: Planned, methods: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return the methods whose row of a classifier is not there, the truth first."""
    done = {row["method"] for row in rows if row["classifier"] == planned.name}
    return [name for name in (TRUTH, *methods) if name not in done]


def measure(planned: Planned, methods: Sequence[str], work: Path, path: Path) -> list[str]:
    """Measure methods on a classifier and append a row for each as soon as it is known.

    Args:
        planned: the classifier.
        methods: names of the rows that are missing.
        work: folder of the pool and of explanations.
        path: file of the rows.

    Returns:
        A line for each row.
    """
    torch.set_num_threads(1)
    began = time.process_time()
    classifier, lines = classifier_of(planned), []
    subject = Subject(planned, classifier, work)
    with subject.explainer:
        for name in methods:
            if name == TRUTH:
                part = known(planned, classifier, subject.concepts)
            else:
                answers = METHODS[name](subject)
                part = {"answers": {label: answer.record() for label, answer in answers.items()}}
            seconds = time.process_time() - began
            row = {"world": world(), "classifier": planned.name, "method": name, **part}
            append_rows(path, [row | {"CPU seconds": round(seconds, 2)}])
            lines.append(f"{planned.name} {name}: {seconds:.1f} CPU seconds")
            began = time.process_time()
    return lines


def known(planned: Planned, classifier: dx.Classifier, concepts: Concepts) -> Row:
    """Return the known part of a row: effects, roles and half-intervals of every concept, and values on the scenes.

    Args:
        planned: the classifier.
        classifier: that was made of it.
        concepts: of the generator.
    """
    untrained = planned.kind in (REINITIALISED, RESCALED)
    truth = measure_truth(classifier, torch.device("cpu")) if untrained else classifier.truth or {}
    named = concepts.names
    effects, role, spread = audit_truth(truth, named), roles(truth), spreads(truth)
    values = {} if untrained else {label: values_on(classifier, label, planned.cell(label)) for label in planned.labels}
    return {
        "concepts": list(named),
        "effects": {label: [_rounded(effects.get((label, name))) for name in named] for label in OBJECTS},
        "roles": {label: [role.get((label, name)) for name in named] for label in OBJECTS},
        "spreads": {label: [_rounded(spread.get((label, name))) for name in named] for label in OBJECTS},
        "planted": {cell.label: learnt(truth[cell.label], cell) for cell in planned.cells},
        "values": values,
    }


def learnt(truth: Mapping[str, Any], cell: Cell) -> bool:
    """Return whether the classifier learnt what was planted, by its measured truth.

    Every value of a cue must raise the class by more than one logit, and of a pair what both do together must differ by
    more than one logit from the sum; of a pair that is needed together only that.

    Args:
        truth: of the class.
        cell: what is planted in the class.
    """
    effects = {row["attribute"]: row["effect"] for row in truth["attributes"]}
    effects |= {row["cue"]: row["effect"] for row in truth.get("unnamed", ())}
    # The truths of the world that shipped first have no row for a missing companion, which no cue of theirs is.
    raised = all(effects[":".join(value)] > DECISIVE for value in cell.cue.values)
    if len(cell.cue.values) == 1:
        return raised
    together = truth["interactions"][0]["effect"]
    return bool(together > DECISIVE if cell.cue.every else raised and together < -DECISIVE)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)


def answers_of(row: Row) -> dict[str, Answer]:
    """Return the answers of a row."""
    return {label: Answer.read(record) for label, record in row["answers"].items()}
