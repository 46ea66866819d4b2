"""Evidence pictures of verdicts: pictures of the trial with the first concept, and others without it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from PIL import Image

from diffexplain_fast.evidence.evaluation import pictures_of
from diffexplain_fast.evidence.pool import UNIT, Pool
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.rows import Trial
from diffexplain_fast.results.audit_rows import Verdict

_SHOWN = 4
"""Pictures with the concept, and as many without it."""
_MOST_VERDICTS = 50
"""Verdicts with pictures: a report of a thousand classes stays small."""


def with_pictures(
    trial: Trial, pool: Pool, verdicts: Mapping[str, Verdict]
) -> tuple[dict[str, Verdict], list[Image.Image]]:
    """Return the verdicts with the places of their pictures, and the pictures.

    Args:
        trial: the finished trial.
        pool: holds its pictures.
        verdicts: by target, in the order of the targets.
    """
    asked = trial.plan.asked.named
    values = (trial.first or trial.data).values  # what is shown are the first draws
    chosen: dict[str, list[int]] = {}
    for place, (target, verdict) in enumerate(verdicts.items()):
        if verdict.concepts and len(chosen) < _MOST_VERDICTS:
            has = asked[:, trial.concepts.names.index(verdict.concepts[0])]
            own = own_concept(trial.concepts, trial.readout.labels[place])
            mine = np.zeros(len(has), dtype=bool) if own is None else asked[:, own]
            if own is not None and trial.concepts.names[own] == verdict.concepts[0]:
                mine = np.zeros(len(has), dtype=bool)
            # First the pictures that show the effect: answered with the target, or not answered with it.
            with_it = _first(has & ~mine, values[:, place])
            chosen[target] = [*with_it, *_first(~has & ~mine, -values[:, place])]
    numbers = sorted({number for some in chosen.values() for number in some})
    images = list(_pictures(trial, pool, numbers))
    places = {number: place for place, number in enumerate(numbers)}
    shown = {
        target: replace(verdict, pictures=[places[number] for number in chosen.get(target, [])])
        for target, verdict in verdicts.items()
    }
    return shown, images


def _first(rows: np.ndarray, merit: np.ndarray) -> list[int]:
    """Return the typical pictures of a part: those whose value is nearest to the part's median."""
    places = np.flatnonzero(rows)
    if not len(places):
        return []
    distance = np.abs(merit[places] - np.median(merit[places]))
    return [int(place) for place in places[np.argsort(distance, kind="stable")[:_SHOWN]]]


def _pictures(trial: Trial, pool: Pool, numbers: Sequence[int]) -> Iterator[Image.Image]:
    """Yield pictures by their numbers, in ascending order; each unit of the pool is read once."""
    stage, captions = trial.plan.stage, trial.plan.captions
    for start, some in groupby(numbers, lambda number: number // UNIT * UNIT):
        (levels,) = pool.pictures(stage, captions, start, min(start + UNIT, len(captions)))
        unit = pictures_of(pool.as_pixels(levels))
        yield from (unit[number - start] for number in some)
