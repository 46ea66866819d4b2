"""Pictures that do not show what was asked for are drawn again, from new start latents, until an eye agrees."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.calibration import Sight
from diffexplain_fast.evidence.eyes import Eye
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.methods.discovery.trial import Again, Measured, Report, measured
from diffexplain_fast.stats.cells import estimate


def seen_groups(sight: Sight | None, levels: Sequence[int], groups: int) -> list[np.ndarray]:
    """Return the concepts of every group whose eye is believed, by their places.

    Args:
        sight: the eye; None for none.
        levels: number of values of every group.
        groups: number of groups.
    """
    ends = np.cumsum(levels[:groups])
    places = [np.arange(end - count, end) for end, count in zip(ends, levels[:groups], strict=True)]
    if sight is None:
        return []
    if sight.errors is None:
        return places
    return [own for own, error in zip(places, sight.errors, strict=True) if error.whole(len(own))]


def agrees(asked: np.ndarray, seen: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return whether an eye sees what a picture asks for, in every group that the picture names, bool [pictures].

    Args:
        asked: bool [pictures, concepts].
        seen: float [pictures, concepts]: 1, 0 or NaN; where the eye cannot tell it does not disagree.
        groups: from ``seen_groups``.
    """
    right = np.ones(len(asked), dtype=bool)
    for places in groups:
        named = asked[:, places].any(1)
        shown = (asked[:, places] & ((seen[:, places] == 1) | np.isnan(seen[:, places]))).any(1)
        right &= ~named | shown
    return right


def check_redraw(question: Question, plan: Plan, tries: int) -> None:
    """Refuse to draw pictures again where nothing says which.

    Raises:
        ValueError: no eye that tells the values of a group apart.
    """
    if tries and not seen_groups(question.sight, plan.asked.levels, plan.asked.groups):
        raise wrong_value("redraw", "0 without an eye that tells the values of a group apart", tries)


def redraws(question: Question, plan: Plan, tries: int, report: Report) -> Again | None:
    """Return what draws pictures of a trial again; None where nothing is drawn again.

    Args:
        question: pool, classifier and eye.
        plan: the captions.
        tries: how often a picture is drawn again at most.
        report: see ``redrawn``.
    """
    groups, sight = seen_groups(question.sight, plan.asked.levels, plan.asked.groups), question.sight
    if not tries or sight is None:
        return None
    eye = sight.look
    return lambda data, first: redrawn(question.pool, plan, question.readout, eye, groups, data, first, tries, report)


def asking_first(plan: Plan, first: Measured, own: Sequence[int | None]) -> np.ndarray:
    """Return the effects of asking in the pictures as they were drawn first, float [concepts, targets].

    Args:
        plan: the captions of the pictures that were used.
        first: what was said of these pictures.
        own: place of every target's own object among the concepts, None where there is none.
    """
    effects = estimate(plan.asked, first.values, own, len(first.values)).effects
    return np.asarray(effects.estimate[plan.asked.places])


def redrawn(
    pool: Pool,
    plan: Plan,
    readout: Readout,
    eye: Eye,
    groups: Sequence[np.ndarray],
    data: Measured,
    first: int,
    tries: int,
    report: Report,
) -> Measured:
    """Return what is said of pictures in which an eye sees what was asked for, as far as some tries lead to them.

    A picture with which the eye never agrees stays as it was drawn first.

    Args:
        pool: draws the pictures; those of a try are a stage of their own.
        plan: the captions.
        readout: the classifier and its targets.
        eye: sees concepts in pictures.
        groups: from ``seen_groups``.
        data: what was said of the pictures as they were drawn first.
        first: number of the first of these pictures.
        tries: how often a picture is drawn again at most.
        report: receives pictures that are there and pictures that are wanted, of each try.
    """
    assert data.seen is not None
    rows = slice(first, first + len(data.values))
    asked, values, hits, seen = plan.asked.named[rows], data.values.copy(), data.hits.copy(), data.seen.copy()
    left = np.flatnonzero(~agrees(asked, seen, groups))
    for number in range(1, tries + 1):
        if not len(left):
            break
        captions = tuple(plan.captions[first + place] for place in left)
        again = replace(plan, stage=f"{plan.stage}-again-{number}-{first}", captions=captions)
        found = measured(pool, again, readout, eye, 0, len(captions), report)
        assert found.seen is not None
        good = agrees(asked[left], found.seen, groups)
        values[left[good]], hits[left[good]], seen[left[good]] = found.values[good], found.hits[good], found.seen[good]
        left = left[~good]
    return Measured(values, hits, seen)
