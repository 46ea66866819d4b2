"""Jobs of a picture whose captions fit into the text encoder, and the names of those that do not."""

import warnings
from collections.abc import Callable

from diffexplain_fast.errors import callers_level, describe
from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.scene import Job, Scene, job_of
from diffexplain_fast.taxonomy import Concept

_SHOWN = 8
"""Names that a warning has at most."""


class Jobs:
    """Makes jobs.

    Args:
        wording: of the captions.
        fits: whether a caption fits into the context of the text encoder.

    Attributes:
        too_long: what was left out because its caption does not fit, as "concept on picture 0".
    """

    def __init__(self, wording: Wording, fits: Callable[[str], bool]) -> None:
        self._wording, self._fits = wording, fits
        self.too_long: dict[str, None] = {}

    def of(self, scene: Scene, concepts: tuple[Concept, ...]) -> Job | None:
        """Return the job of showing concepts, None where ``job_of`` knows none or its caption does not fit."""
        job = job_of(scene, concepts, self._wording)
        if job is None or self._fits(job.caption):
            return job
        self.too_long[f"{' and '.join(job.names)} on picture {scene.index}"] = None
        return None

    def warn(self) -> None:
        """Warn of what was left out."""
        if self.too_long:
            names = [*self.too_long]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            got = f"longer ones for {', '.join(names[:_SHOWN])}{more}, which are left out"
            wanted = "captions that leave room for the words of concepts"
            warnings.warn(describe("captions", wanted, got), stacklevel=callers_level())
