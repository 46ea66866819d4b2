"""False findings of audits that grow: ``python -m benchmarks.discovery.grown --pool FOLDER``.

Two hundred audits of one classifier would draw hundreds of thousands of pictures, so they are simulated. For every
object that captions ask for, a regression of the answers of a large pool says what every other value adds; what is
left of each picture is its residual. A simulated picture has captions of a fresh balanced design, the mean of the
regression, and the residuals of a random picture of the same object, of all classes together. The true effect of
each cell is then known exactly. The trial is the package's own, with its
looks, its growth and its pictures of own objects. A finding is false where the true effect in its direction is at most
the minimal effect.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np

import diffexplain_fast as dx
from benchmarks.discovery.figures import Row
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.plan import Plan, context_plan
from diffexplain_fast.methods.discovery.trial import Measured, Ran, Report, measured, run_trial
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.coding import cells_of, columns
from diffexplain_fast.stats.decisions import Control
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.storage import read_json, write_json_atomic

RESULT = Path(__file__).parent.parent / "results" / "discovery_grown.json"
_OWN_SEED, _CLEAR = 7_000_000, 0.4
"""What is added to seeds of own objects' captions, and how far above the minimal effect a cell should be found."""


class World(NamedTuple):
    """What a classifier says of simulated pictures.

    Attributes:
        levels: number of values of every group.
        at: column of the objects.
        means: of every object, the regression's coefficients, float [terms, targets].
        residuals: of every object, float [pictures, targets].
        own: place of every target's own object among the concepts.
    """

    levels: tuple[int, ...]
    at: int
    means: Sequence[np.ndarray]
    residuals: Sequence[np.ndarray]
    own: Sequence[int | None]

    def mean(self, design: np.ndarray) -> np.ndarray:
        """Return the answers without residuals, float [pictures, targets]."""
        terms = columns(design, self.levels)
        found = np.zeros((len(design), self.means[0].shape[1]))
        for value, coefficients in enumerate(self.means):
            mine = design[:, self.at] == value
            found[mine] = terms[mine] @ coefficients
        return found

    def answers(self, design: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return answers [pictures, targets] to new pictures."""
        found = self.mean(design)
        for value, residuals in enumerate(self.residuals):
            mine = np.flatnonzero(design[:, self.at] == value)
            found[mine] += residuals[rng.integers(0, len(residuals), len(mine))]
        return found

    def truth(self) -> np.ndarray:
        """Return the true effect of every concept on every target, float [concepts, targets].

        The mean of a value, where the other groups are uniform, minus the median over its group; averaged over the
        own object there and not there, except of objects.
        """
        groups, values = cells_of(self.levels)
        uniform = 1 / np.array(self.levels)[groups]
        each = np.zeros((self.levels[self.at], len(groups), self.means[0].shape[1]))  # [objects, cells, targets]
        for thing, coefficients in enumerate(self.means):
            for cell, group in enumerate(groups.tolist()):
                row = np.where(groups == self.at, values == thing, uniform)
                row = np.where(groups == group, np.arange(len(groups)) == cell, row)
                each[thing, cell] = np.concatenate([[1.0], row, np.zeros(len(self.levels))]) @ coefficients
        objects = np.flatnonzero(groups == self.at)
        own = each[np.arange(len(objects)), objects]
        every = self._against_median(each.mean(0))
        for target, place in enumerate(self.own):
            thing = None if place is None else int(values[place])
            if thing is not None:
                rest = np.delete(each, thing, 0).mean(0)
                every[:, target] = (self._against_median(each[thing]) + self._against_median(rest))[:, target] / 2
        every[objects] = own - np.median(own, 0)
        return every

    def _against_median(self, means: np.ndarray) -> np.ndarray:
        groups, _ = cells_of(self.levels)
        return np.concatenate([means[groups == g] - np.median(means[groups == g], 0) for g in range(len(self.levels))])


class Drawn:
    """Stands for the pool and the classifier: a picture is its row of answers.

    Args:
        answers: float [pictures, targets].
    """

    def __init__(self, answers: np.ndarray) -> None:
        self._answers = answers

    def pictures(
        self, stage: str, captions: Sequence[str], first: int, last: int, report: Report
    ) -> Iterator[np.ndarray]:
        """Yield the rows of some pictures."""
        yield self._answers[first:last]

    def as_pixels(self, levels: np.ndarray) -> np.ndarray:
        """Return the rows themselves."""
        return levels

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the answers, and that none is the class: only effects are judged here."""
        return pixels, np.zeros(pixels.shape, dtype=bool)


def world_of(
    design: np.ndarray, levels: tuple[int, ...], at: int, values: np.ndarray, own: Sequence[int | None]
) -> World:
    """Return the world that is fitted to the answers to a pool.

    Args:
        design: what its captions ask for, int [pictures, groups].
        levels: number of values of every group.
        at: column of the objects.
        values: float [pictures, targets].
        own: place of every target's own object among the concepts.
    """
    means, residuals, terms = [], [], columns(design, levels)
    for value in range(levels[at]):
        mine = design[:, at] == value
        found, _, rank, _ = np.linalg.lstsq(terms[mine], values[mine], rcond=None)
        means.append(found)
        residuals.append((values[mine] - terms[mine] @ found) * np.sqrt(mine.sum() / (mine.sum() - rank)))
    return World(levels, at, means, residuals, own)


def plan_of(world: World, count: int, seed: int, own: int | None = None) -> Plan:
    """Return a plan of simulated captions, of one object or of all."""
    design = balanced_design(world.levels, count, seed, 0.0)
    if own is not None:
        design[:, world.at] = own
    asked, phrasing = Asked(design, world.levels, len(world.levels)), np.zeros(count, dtype=np.int64)
    return Plan("simulated", ("",) * count, asked, phrasing, np.zeros((count, 0), dtype=np.int64))


def grown(world: World, options: AuditOptions, seed: int) -> Ran:
    """Return a simulated trial that has ended."""
    rng = np.random.default_rng([seed, 1])
    plan = plan_of(world, options.pictures, seed)
    first_of_objects = int(np.flatnonzero(plan.asked.columns == world.at)[0])

    def beside(targets: Sequence[int]) -> dict[int, tuple[Plan, Measured]]:
        found = {}
        for target in targets[: options.most_beside]:
            place = world.own[target]
            if place is not None:
                more = plan_of(world, options.beside, seed + _OWN_SEED + target, place - first_of_objects)
                answers = world.answers(more.asked.design, rng)
                found[target] = more, Measured(answers, np.zeros(answers.shape, dtype=bool), None)
        return found

    drawn = Drawn(world.answers(plan.asked.design, rng))
    rule = options.rule(True, False, seed)
    pool, readout = cast(Pool, drawn), cast(Readout, drawn)
    return run_trial(pool, plan, readout, world.own, None, rule, lambda done, wanted: None, beside=beside)


def figures(ran: Ran, truth: np.ndarray, delta: float) -> Row:
    """Return what one audit found, beside the truth [concepts, targets]."""
    judged, found = ran.judged, ran.judged.found
    covered, right = (judged.low <= truth) & (truth <= judged.high), found * truth > delta
    clear, some = np.abs(truth) > delta + _CLEAR, found != 0
    return {
        "found": int(some.sum()),
        "false": int((some & ~right).sum()),
        "clear": int(clear.sum()),
        "clear found": int((clear & right).sum()),
        "covered": float(covered.mean()),
        "findings covered": int((covered & some).sum()),
        "none, truly above": int(((judged.names == "none") & (np.abs(truth) > 2 * delta)).sum()),
        "pictures": len(ran.data.values),
    }


def together(rows: Sequence[Row], cells: int) -> Row:
    """Return the figures of all audits of one classifier."""
    wrong, found = sum(row["false"] > 0 for row in rows), sum(row["found"] for row in rows)
    clear = sum(row["clear"] for row in rows)
    proportions = np.array([row["false"] / max(row["found"], 1) for row in rows])
    return {
        "audits": len(rows),
        "cells": cells,
        "audits with a false finding": {"share": wrong / len(rows), "interval": wilson_interval(wrong, len(rows))},
        "false discovery rate": float(proportions.mean()),
        "its standard error": float(proportions.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else None,
        "findings an audit": found / len(rows),
        "clear cells found": sum(row["clear found"] for row in rows) / clear if clear else None,
        "covered": float(np.mean([row["covered"] for row in rows])),
        "findings covered": sum(row["findings covered"] for row in rows) / found if found else None,
        "called none, truly above twice the minimal effect": sum(row["none, truly above"] for row in rows),
        "pictures at the end": {str(size): n for size, n in sorted(Counter(row["pictures"] for row in rows).items())},
    }


def fitted(name: str, folder: Path, pictures: int) -> World:
    """Return the world of a shipped classifier, from the pictures of a pool that is drawn where it is not there."""
    classifier = dx.Classifier.from_pretrained(f"tinyworld/{name}")
    with dx.Explainer("tinyworld", classifier) as explainer:
        question = explainer.audit(pictures=96, own_pictures=0, pool=folder)._hidden._question
        plan = context_plan(question.concepts, question.phrases, question.pool.pipeline, pictures, question.seed)
        said = measured(question.pool, plan, question.readout, None, 0, pictures, lambda done, wanted: None)
    asked = plan.first(pictures).asked
    own = [own_concept(question.concepts, label) for label in question.readout.labels]
    return world_of(asked.design, asked.levels, list(question.concepts.groups).index("object"), said.values, own)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="folder of the pictures, new or of an earlier run")
    parser.add_argument("--pool-pictures", type=int, default=3072)
    parser.add_argument("--audits", type=int, default=200, help="of every classifier")
    parser.add_argument("--pictures", type=int, default=1536, help="limit of an audit")
    parser.add_argument("--control", choices=get_args(Control), default="fdr")
    parser.add_argument("--classifiers", nargs="*", default=list(tinyworld.classifier_names()))
    parser.add_argument("--out", type=Path, default=RESULT, help="keeps what it has of other classifiers and controls")
    given = parser.parse_args()
    options = AuditOptions(pictures=given.pictures, control=given.control)
    result: Row = read_json(given.out) if given.out.exists() else {}
    for name in given.classifiers:
        world = fitted(name, given.pool, given.pool_pictures)
        truth, began = world.truth(), time.process_time()
        rows = []
        for seed in range(given.audits):
            rows.append(figures(grown(world, options, seed), truth, options.minimal_effect))
            print(name, seed, rows[-1], flush=True)
        found = together(rows, truth.size) | {"CPU seconds": time.process_time() - began}
        settings: Row = {**options.record(), "pool pictures": given.pool_pictures, "versions": versions()}
        result[f"{name}, {given.control}"] = found | {"settings": settings, "device": device_record()}
        write_json_atomic(given.out, result)
        print(name, found, flush=True)


if __name__ == "__main__":
    main()
