"""The pictures of a trial beside those that it grew by: of own objects, and those that it used, once more."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from diffexplain_fast.evidence.eyes import Eye
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.prepared import Prepared
from diffexplain_fast.methods.discovery.trial import Measured, measured


def own_pictures(prepared: Prepared, report: Callable[[int, int], None]) -> dict[int, tuple[Plan, Measured]]:
    """Return plan and data of pictures of own objects, by the place of the target.

    Args:
        prepared: the question.
        report: receives pictures that are there and pictures that are wanted, of one class after the other.
    """
    return _drawn(prepared, prepared.own, None, report)


def pictures_beside(
    prepared: Prepared, places: Sequence[int], report: Callable[[int, int], None]
) -> dict[int, tuple[Plan, Measured]]:
    """Return the same, with what the eye sees, of targets whose name is a concept and of which something is undecided.

    Args:
        prepared, report: see ``own_pictures``.
        places: of the targets, the most important first; the options may allow fewer.
    """
    sight = prepared.question.sight
    there = [place for place in places if place in prepared.beside][: prepared.options.most_beside]
    wanted = {place: prepared.beside[place] for place in there}
    return _drawn(prepared, wanted, None if sight is None else sight.look, report)


def _drawn(
    prepared: Prepared, wanted: Mapping[int, Callable[[], Plan]], eye: Eye | None, report: Callable[[int, int], None]
) -> dict[int, tuple[Plan, Measured]]:
    pool, readout = prepared.question.pool, prepared.question.readout
    plans = ((place, captions()) for place, captions in wanted.items())
    return {place: (plan, measured(pool, plan, readout, eye, 0, len(plan.captions), report)) for place, plan in plans}


def used_pictures(prepared: Prepared, count: int) -> Iterator[Tensor]:
    """Yield the first pictures of the pool that serve every class, as pixels [B, 3, H, W] in [0, 1].

    Args:
        prepared: the question.
        count: how many were used.
    """
    pool, plan = prepared.question.pool, prepared.context
    for levels in pool.pictures(plan.stage, plan.captions, 0, count):
        yield pool.as_pixels(levels)
