"""Jobs of a picture whose captions can be said and fit into the text encoder, and the names of those that do not."""

import warnings
from collections.abc import Callable, Iterable

from diffexplain_fast.errors import callers_level, describe
from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.scene import Job, Scene, job_of, shows
from diffexplain_fast.taxonomy import Concept

_SHOWN = 8
"""Names that a warning has at most."""


class Jobs:
    """Makes jobs.

    Args:
        wording: of the captions.
        fits: whether a caption fits into the context of the text encoder.

    Attributes:
        too_long: what was left out because its caption does not fit, as "concept on picture 1", from 1.
        unsaid: what was left out because the caption neither says it nor can say it, as the colour of an empty place.
    """

    def __init__(self, wording: Wording, fits: Callable[[str], bool]) -> None:
        self._wording, self._fits = wording, fits
        self.too_long: dict[str, None] = {}
        self.unsaid: dict[str, None] = {}

    def of(self, scene: Scene, concepts: tuple[Concept, ...]) -> Job | None:
        """Return the job of showing concepts, None where ``job_of`` knows none or its caption does not fit."""
        job = job_of(scene, concepts, self._wording)
        if job is not None and self._fits(job.caption):
            return job
        name = f"{' and '.join(concept.name for concept in concepts)} on picture {scene.index + 1}"
        if job is not None:
            self.too_long[name] = None
        elif len(concepts) == 1 and not shows(scene, concepts[0], self._wording):
            self.unsaid[name] = None
        return None

    def warn(self) -> None:
        """Warn of what was left out."""
        room = "captions that leave room for the words of concepts"
        warn_of(self.too_long, room, "longer ones for {}, which are left out")
        place = "captions that can say the words of concepts"
        warn_of(self.unsaid, place, "ones that have no place for {}, which are left out")


def warn_of(names: Iterable[str], wanted: str, got: str) -> None:
    """Warn of captions that are not as wanted, of the first names in "{}"; without names of nothing."""
    some = [*names]
    if some:
        more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
        got = got.format(", ".join(some[:_SHOWN]) + more)
        warnings.warn(describe("captions", wanted, got), stacklevel=callers_level())
