"""A trial that grows: pictures are drawn look by look until every cell is decided or the limit is reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.eyes import Eye
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.cells import Estimated, Judged, Rule, estimate, judge

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


Again = Callable[[Measured, int], Measured]


def measured(
    pool: Pool, plan: Plan, readout: Readout, eye: Eye | None, first: int, last: int, report: Report
) -> Measured:
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


class Ran(NamedTuple):
    """A trial after its last look.

    Attributes:
        data: what was said of the pictures that count.
        first: of all pictures as they were drawn first; the same but where some are drawn again.
        estimated: effects of all cells.
        judged: the cells.
    """

    data: Measured
    first: Measured
    estimated: Estimated
    judged: Judged


def run_trial(
    pool: Pool,
    plan: Plan,
    readout: Readout,
    own: Sequence[int | None],
    eye: Eye | None,
    rule: Rule,
    report: Report,
    again: Again | None = None,
) -> Ran:
    """Return a trial after the look at which all cells are decided, or the last one.

    Args:
        pool: see ``measured``.
        plan: see ``measured``.
        readout: see ``measured``.
        own: place of every target's own object among the concepts, None where there is none.
        eye: see ``measured``.
        rule: of the looks and tests.
        report: see ``measured``.
        again: draws pictures again that do not show what was asked for, from what was said of them and the number of
            the first; None to take them as they are.
    """
    parts: list[Measured] = []
    drawn: list[Measured] = []
    found, before = None, 0
    for look in rule.looks:
        drawn.append(measured(pool, plan, readout, eye, before, look.pictures, report))
        parts.append(drawn[-1] if again is None else again(drawn[-1], before))
        before, data = look.pictures, joined(parts)
        asked = plan.first(before).asked
        estimated = estimate(asked, data.values, own, rule.looks[-1].pictures)
        judged = judge(asked, estimated, rule, look.level, found)
        found = judged.found
        if not (judged.names == "undecided").any():
            break
    return Ran(data, joined(drawn), estimated, judged)
