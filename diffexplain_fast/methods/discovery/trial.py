"""A trial that grows: pictures are drawn look by look until every cell is decided or the limit is reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffexplain_fast.evidence.eyes import Eye
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.cells import fitted
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.decisions import Control, Look, classify, findings, one_sided_tests, reported_interval
from diffexplain_fast.stats.effects import Effects

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """What is said of the pictures of a plan.

    Attributes:
        values: float64 [pictures, targets].
        hits: bool [pictures, targets].
        seen: bool [pictures, concepts], whether the eye sees the concept; None without an eye.
    """

    values: np.ndarray
    hits: np.ndarray
    seen: np.ndarray | None


@dataclass(frozen=True)
class Judged:
    """The cells of a trial after its last look; arrays are [cells, targets].

    Attributes:
        effects: estimates and errors.
        found: 1 above the minimal effect, -1 below its negative, 0 not found.
        low: lower end of the interval.
        high: upper end.
        p: of the test in the direction of the estimate.
        adjusted: the same, adjusted over all cells.
        names: "finding", "none", "small" or "undecided".
        pictures: how many the trial took.
    """

    effects: Effects
    found: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray
    names: np.ndarray
    pictures: int


def measured(pool: Pool, plan: Plan, readout: Readout, eye: Eye | None, first: int, last: int, report: Report) -> Measured:
    """Draw pictures of a plan, where they are not drawn yet, and ask classifier and eye about each.

    Args:
        pool: the pictures.
        plan: the captions.
        readout: the classifier and its targets.
        eye: sees concepts in pictures; None for none.
        first: number of the first picture.
        last: number after the last picture.
        report: receives pictures that are there and pictures that are wanted.
    """
    values, hits, seen = [], [], []
    for levels in pool.pictures(plan.stage, plan.captions, first, last, report):
        said = readout(pool.as_pixels(levels))
        values.append(said[0])
        hits.append(said[1])
        if eye is not None:
            seen.append(eye(pool.as_pixels(levels)))
    return Measured(np.concatenate(values), np.concatenate(hits), np.concatenate(seen) if seen else None)


def joined(parts: Sequence[Measured]) -> Measured:
    """Return the pictures of several parts, one after the other."""
    seen = [part.seen for part in parts if part.seen is not None]
    return Measured(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.hits for part in parts]),
        np.concatenate(seen) if seen else None,
    )


def run_trial(
    pool: Pool,
    plan: Plan,
    readout: Readout,
    eye: Eye | None,
    looks: Sequence[Look],
    delta: float,
    control: Control,
    seed: int,
    report: Report,
) -> tuple[Measured, Judged]:
    """Return the pictures and the cells of a trial after the look at which all cells are decided, or the last one.

    Args:
        pool: see ``measured``.
        plan: see ``measured``.
        readout: see ``measured``.
        eye: see ``measured``.
        looks: numbers of pictures at which cells are tested, and the levels that are spent there.
        delta: minimal effect.
        control: of false findings; see ``one_sided_tests``.
        seed: of the bootstrap.
        report: see ``measured``.
    """
    parts: list[Measured] = []
    found, before = None, 0
    for look in looks:
        parts.append(measured(pool, plan, readout, eye, before, look.pictures, report))
        before, data = look.pictures, joined(parts)
        judged = judge(plan.first(before), data.values, sum(one.level for one in looks), look.level, found, delta, control, seed)
        found = judged.found
        if not (judged.names == "undecided").any():
            break
    return data, judged


def judge(
    plan: Plan,
    values: np.ndarray,
    level: float,
    spent: float,
    earlier: np.ndarray | None,
    delta: float,
    control: Control,
    seed: int,
) -> Judged:
    """Return the cells of a trial at one look.

    Args:
        plan: the captions of the pictures.
        values: of the targets, float [pictures, targets].
        level: error of the intervals.
        spent: level of the tests at this look.
        earlier: what was found at the looks before.
        delta: minimal effect.
        control: of false findings.
        seed: of the bootstrap.
    """
    fit, effects = fitted(plan, values)
    named = np.broadcast_to(((effects.groups < plan.groups) | (effects.values == 1))[:, None], effects.estimate.shape)
    tests = one_sided_tests(effects, delta, control, named, fit, seed)
    found = findings(tests, spent, earlier)
    low, high = reported_interval(effects, found, tests.tested, level)
    above = effects.estimate >= 0
    return Judged(
        effects=effects,
        found=found,
        low=low,
        high=high,
        p=np.where(above, tests.above, tests.below),
        adjusted=np.where(above, tests.adjusted_above, tests.adjusted_below),
        names=classify(effects.estimate, low, high, found, tests.tested, delta),
        pictures=len(values),
    )
