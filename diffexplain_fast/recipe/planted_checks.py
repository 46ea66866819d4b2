"""The bars of ``make_classifier`` over a seeded list: ``python -m diffexplain_fast.recipe.planted_checks --count 6``.

Every classifier has three cues. On each class with a cue it is measured, by rendering scenes that neither training nor
truth has seen: the planted effect in centred logits, the strongest effect of any attribute of another group, and how
often the intervals of the truth cover a measurement on ten times the scenes. The cues of one seed are trained at two
strengths, so that growth with the strength is seen.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe import truth as truths
from diffexplain_fast.recipe.levels import answers, drawn, rendered
from diffexplain_fast.recipe.making import make_classifier
from diffexplain_fast.recipe.shortcuts import CUE_NAMES, Cue
from diffexplain_fast.records import JsonObject
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.targets.outputs import SOFTMAX
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, values_of

log = logging.getLogger(__name__)
STRENGTHS = (1.0, 0.5)
_FRESH = 3_000_000
_PAIRED = range(3_500_000, 3_500_096)
_BARS = {"planted effect": 3.0, "other groups": 0.4, "coverage": 0.93}
_CLASSES = 3


class Row(NamedTuple):
    """What was measured of one classifier.

    Attributes:
        seed: of cues and training.
        strength: of the reliance.
        cues: class to its cue, in words.
        effects: class to the planted effect.
        others: class to the strongest effect of an attribute of another group, object and cue left out.
        coverage: share of all intervals of the truth that hold the effect of ten times the scenes; None if not asked.
        seconds: of one core that making took; next to nothing where the classifier was made before.
    """

    seed: int
    strength: float
    cues: dict[str, str]
    effects: dict[str, float]
    others: dict[str, float]
    coverage: float | None
    seconds: float


def draw_cues(seed: int) -> dict[str, Cue]:
    """Draw three classes, each with a cue of its own: single values, and in two of three lists a pair."""
    rng = np.random.default_rng([seed, 900])
    labels = [OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:_CLASSES]]
    names = [CUE_NAMES[i] for i in rng.permutation(len(CUE_NAMES))]
    cues: dict[str, Cue] = {}
    for i, label in enumerate(labels):
        size = 2 if i == 0 and seed % 3 else 1
        chosen, names = names[:size], names[size:]
        every = size == 1 or seed % 3 == 1
        values = [(name, str(rng.choice(_sayable(name)))) for name in sorted(chosen, key=CUE_NAMES.index)]
        cues[label] = Cue(tuple(values), every)
    return cues


def _sayable(name: str) -> list[str]:
    return [value for value in values_of(name) if value != ABSENCE.get(name) or name == "companion"]


def planted_effect(classifier: Classifier, label: str, cue: Cue) -> float:
    """Return the centred logit with the whole cue minus that with none of it, half of the scenes with the own object.

    Args:
        classifier: of the tiny world.
        label: the class.
        cue: its cue.
    """
    index = OBJECTS.index(label)
    found = []
    for turn, seed in enumerate(_PAIRED):
        base = drawn(seed, index if turn % 2 else index + 1 + turn // 2 % (len(OBJECTS) - 1))
        rng = np.random.default_rng([seed, 5])
        none = {n: str(rng.choice([v for v in values_of(n) if v != value])) for n, value in cue.values}
        pictures = rendered([base | dict(cue.values), base | none], seed)
        said = truths.on_scale(answers(classifier, pictures, torch.device("cpu")), classifier.output or SOFTMAX)
        found.append(said[0, index] - said[1, index])
    return float(np.mean(found))


def strongest_elsewhere(truth: JsonObject, label: str, cue: Cue) -> float:
    """Return the largest absolute effect on a class among attributes that are neither its object nor in its cue."""
    names = {"object", *(name for name, _ in cue.values)}
    rows = [(row["attribute"], row["effect"]) for row in truth[label]["attributes"]]
    rows += [(row["cue"], row["effect"]) for row in truth[label]["unnamed"]]
    return max(abs(effect) for row, effect in rows if row.partition(":")[0] not in names)


def coverage(truth: JsonObject, fresh: JsonObject) -> float:
    """Return the share of a truth's intervals that hold the effect of another one."""
    held = []
    for label in OBJECTS:
        for kind, key in (("attributes", "attribute"), ("unnamed", "cue")):
            other = {row[key]: row["effect"] for row in fresh[label][kind]}
            held += [row["interval"][0] <= other[row[key]] <= row["interval"][1] for row in truth[label][kind]]
    return sum(held) / len(held)


def measure(seed: int, strength: float, model: str, covered: bool) -> Row:
    """Make one classifier and measure it; ``covered`` asks for the coverage, which takes a minute of one core."""
    cues = draw_cues(seed)
    start = time.process_time()
    classifier = make_classifier(cues, seed, strength=strength, model=model)
    seconds = time.process_time() - start
    truth = classifier.truth or {}
    share = None
    if covered:
        seeds = range(_FRESH, _FRESH + 10 * len(truths.SEEDS))
        share = coverage(truth, truths.measure_truth(classifier, torch.device("cpu"), seeds, cues))
    return Row(
        seed,
        strength,
        {
            label: (" and " if cue.every else " or ").join(":".join(v) for v in cue.values)
            for label, cue in cues.items()
        },
        {label: planted_effect(classifier, label, cue) for label, cue in cues.items()},
        {label: strongest_elsewhere(truth, label, cue) for label, cue in cues.items()},
        share,
        seconds,
    )


def summary(rows: list[Row]) -> JsonObject:
    """Return the figures that the bars are about, and whether each that was measured is met."""
    full = [effect for row in rows if row.strength == 1 for effect in row.effects.values()]
    others = [effect for row in rows for effect in row.others.values()]
    shares = [row.coverage for row in rows if row.coverage is not None]
    effects = {(row.seed, row.strength): row.effects for row in rows}
    pairs = [
        (effects[seed, min(STRENGTHS)][label], effects[seed, max(STRENGTHS)][label])
        for seed in {row.seed for row in rows}
        for label in effects[seed, max(STRENGTHS)]
    ]
    figures = {
        "least planted effect at strength 1": min(full),
        "most of another group": max(others),
        "share of other groups below": sum(effect < _BARS["other groups"] for effect in others) / len(others),
        "share that grows with the strength": sum(low < high for low, high in pairs) / len(pairs),
        "mean ratio of strength 0.5 to 1": float(np.mean([low / high for low, high in pairs])),
        "least coverage": min(shares, default=None),
        "mean coverage": float(np.mean(shares)) if shares else None,
        "most seconds of one core": max(row.seconds for row in rows),
    }
    met = {
        "planted effect": min(full) > _BARS["planted effect"],
        "other groups": max(others) < _BARS["other groups"],
        "monotone": all(low < high for low, high in pairs),
    }
    if shares:
        met["coverage"] = float(np.mean(shares)) >= _BARS["coverage"]
    return {"figures": figures, "met": met}


def main() -> int:
    """Measure, log and write the list; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3, help="lists of cues, each at two strengths")
    parser.add_argument("--first", type=int, default=0, help="seed of the first list")
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--coverage", type=int, default=1, help="lists whose coverage is measured")
    parser.add_argument("--out", type=Path, default=Path("planted.json"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = []
    for seed in range(options.first, options.first + options.count):
        for strength in STRENGTHS:
            row = measure(seed, strength, options.model, seed < options.first + options.coverage)
            rows.append(row)
            log.info("%s", row)
    found = summary(rows)
    record = {"model": options.model, "rows": [row._asdict() for row in rows], **found}
    write_json_atomic(options.out, record | {"versions": versions(), "devices": device_record()})
    for name, value in found["figures"].items():
        log.info("%s: %s", name, value)
    log.info("bars met: %s", found["met"])
    return 0 if all(found["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
