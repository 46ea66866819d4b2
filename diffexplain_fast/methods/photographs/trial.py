"""The trial of one group: every picture gets every value from a donor, and its own value from another picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.photographs.given import Given, batches
from diffexplain_fast.methods.photographs.pasting import Paster, Regions, donors_of

MOST_PICTURES = 80
"""Pictures that values are pasted into, at most."""
LEAST_PICTURES = 12


@dataclass(frozen=True)
class Pasted:
    """What was said of pictures with pasted values.

    Attributes:
        group: number of the group.
        places: values that had donors, int [values].
        values: float [pictures, values, targets].
        donors: int [pictures, values].
        placebos: float [values, targets]: mean change by pasting the value that a picture has already; NaN where fewer
            than two pictures have it.
    """

    group: int
    places: np.ndarray
    values: np.ndarray
    donors: np.ndarray
    placebos: np.ndarray


def paste_group(
    given: Given, regions: Regions, readout: Readout, seed: int, report: Callable[[int, int], None]
) -> Pasted | None:
    """Paste every value of a group into the pictures, and ask the classifier about each.

    Args:
        given: the pictures.
        regions: of the group.
        readout: the classifier and its targets.
        seed: of the choice of pictures and donors.
        report: receives pictures that are done and pictures that will be.

    Returns:
        What was said; None for fewer than twelve pictures, or fewer than two values with two donors.
    """
    rng = np.random.default_rng([seed, regions.group])
    able = np.flatnonzero(regions.value >= 0) if regions.stuff else np.arange(len(given.pixels))
    chosen = np.sort(rng.permutation(able)[:MOST_PICTURES]).tolist()
    found = {}
    for value in sorted(set(regions.value.tolist()) - {-1}):
        donors = donors_of(regions.value, value, chosen, rng)
        if donors is not None:
            found[value] = donors
    if len(chosen) < LEAST_PICTURES or len(found) < 2:
        return None
    paste = Paster(given, regions)
    total, said = len(found) + 1, []
    for done, donors in enumerate(found.values(), start=1):
        pairs = list(zip(chosen, donors, strict=True))
        said.append(np.concatenate([readout(paste(part))[0] for part in batches(pairs)]))
        report(done * len(chosen), total * len(chosen))
    places = np.array(list(found), dtype=np.int64)
    original = np.concatenate([readout(part)[0] for part in batches(given.pixels[chosen])])
    report(total * len(chosen), total * len(chosen))
    placebos = np.full((len(found), original.shape[1]), np.nan)
    for place, value in enumerate(found):
        rows = np.flatnonzero(regions.value[chosen] == value)
        if len(rows) >= 2:
            placebos[place] = (said[place][rows] - original[rows]).mean(0)
    return Pasted(regions.group, places, np.stack(said, 1), np.array(list(found.values())).T, placebos)
