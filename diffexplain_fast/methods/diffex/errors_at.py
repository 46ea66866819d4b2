"""Where the errors of a picture are measured: how many regions of each kind of place are drawn anew."""

from collections.abc import Sequence

from diffexplain_fast.methods.diffex.kinds import place_of
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Scene

REDRAWS, FEWER, MANY = 3, 2, 7
"""Regions drawn anew for each kind of place: three where so many edits act or there is one kind only, else two."""
NEW = "what is new"
"""The kind of place of things that an edit adds."""


def place_at(regions: Regions, scene: Scene, job: Job) -> str:
    """Return the kind of place that an edit acts on: a new one where it adds something, "" for the whole picture."""
    return place_of(job.changes) if regions.there(scene, job) else NEW


def redraws_at(places: Sequence[str]) -> dict[str, int]:
    """Return how many regions are drawn anew for each kind of place.

    Args:
        places: the kind of each edit of a picture.
    """
    counts = {place: places.count(place) for place in places}
    wanted = {place: REDRAWS if count >= MANY or len(counts) == 1 else FEWER for place, count in counts.items()}
    return {place: min(wanted[place], count) for place, count in counts.items()}


def has_redraws(regions: Regions, place: str) -> bool:
    """Return whether regions of a kind of place can be drawn anew: not the whole picture, which would be another."""
    return regions.known and bool(place)
