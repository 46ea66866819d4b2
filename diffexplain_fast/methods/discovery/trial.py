"""A trial that grows: pictures are drawn look by look until every cell is decided or the limit is reached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.eyes import Eye
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.asked import Asked
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
Beside = Callable[[Sequence[int]], Mapping[int, tuple[Plan, Measured]]]


def measured(
    pool: Pool, plan: Plan, readout: Readout, eye: Eye | None, first: int, last: int, report: Report
) -> Measured:
    """Draw pictures of a plan, where they are not drawn yet, and ask classifier and eye about each.

    Args:
        pool: the pictures.
        plan: the captions.
        readout: the classifier and its targets.
        eye: sees concepts in pictures; None for none.
        first, last: numbers of the first picture and after the last one.
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
        first: of all pictures as they were drawn first.
        estimated: effects of all cells.
        judged: the cells.
        beside: place of a target to how many more pictures there are of its own object.
        every: the captions that count, those of own objects too, and what was said of their pictures.
    """

    data: Measured
    first: Measured
    estimated: Estimated
    judged: Judged
    beside: Mapping[int, int]
    every: tuple[Plan, Measured]


def run_trial(
    pool: Pool,
    plan: Plan,
    readout: Readout,
    own: Sequence[int | None],
    eye: Eye | None,
    rule: Rule,
    report: Report,
    again: Again | None = None,
    beside: Beside | None = None,
) -> Ran:
    """Return a trial after the look at which all cells are decided and all findings shown, or the last one.

    Few pictures ask for any one object. Where cells are still open, more of some own objects are drawn, and all tested.

    Args:
        pool, plan, readout, eye, report: see ``measured``.
        own: place of every target's own object among the concepts, None where there is none.
        rule: of the looks and tests.
        again: draws pictures again that do not show what was asked for, from what was said of them and the first's
            number; None to take them as they are.
        beside: draws pictures of own objects, from places of targets; None for none.
    """
    parts: list[Measured] = []
    drawn: list[Measured] = []
    found, before, whole = None, 0, plan.first(rule.looks[-1].pictures).asked
    for look in rule.looks:
        drawn.append(measured(pool, plan, readout, eye, before, look.pictures, report))
        parts.append(drawn[-1] if again is None else again(drawn[-1], before))
        before, data = look.pictures, joined(parts)
        asked = plan.first(before).asked
        estimated = estimate(asked, data.values, own, len(whole.design), whole)
        judged = judge(asked, estimated, rule, look.level, found)
        found = judged.found
        if not _open(judged, rule).any():
            break
    every, unsure = (plan.first(before), data), _unsure(asked, judged, rule, own)
    more = beside(unsure) if beside is not None and unsure else {}
    if more:
        plans = {place: captions for target, (captions, _) in more.items() if (place := own[target]) is not None}
        every = every[0].and_more(plans), joined([data, *(said for _, said in more.values())])
        estimated = estimate(every[0].asked, every[1].values, own, len(every[1].values), whole)
        judged = judge(every[0].asked, estimated, rule, rule.own_level, found)
    sizes = {target: len(captions.captions) for target, (captions, _) in more.items()}
    return Ran(data, joined(drawn), estimated, judged, sizes, every)


def _open(judged: Judged, rule: Rule) -> np.ndarray:
    """Return which cells more pictures may decide: undecided ones, and possible findings that are not shown yet."""
    beyond = (np.abs(judged.estimate) > rule.delta) & (judged.found == 0)
    return np.asarray((judged.names == "undecided") | beyond)


def _unsure(asked: Asked, judged: Judged, rule: Rule, own: Sequence[int | None]) -> list[int]:
    """Return the targets of which more own objects are wanted, for cells beside them or of them, the largest first."""
    size, columns = np.where(_open(judged, rule), np.nan_to_num(np.abs(judged.estimate)), -1.0), asked.columns
    sharing = {place: [t for t, its in enumerate(own) if its == place] for place in own if place is not None}
    apart = {at: columns != columns[at] for at in sharing}
    largest = {ts[0]: max(size[at].max(), size[apart[at]][:, ts].max(initial=-1)) for at, ts in sharing.items()}
    return sorted((target for target, most in largest.items() if most >= 0), key=lambda target: -largest[target])
