"""Where jobs act in a picture: found by a segmenter, or the whole picture without one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.editing.latents import grown
from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.kinds import GROW, kind_of
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.models.seeing import Segmenter


class Regions:
    """Finds regions of words in pictures.

    Args:
        segmenter: finds them; None for the whole picture everywhere.
        wording: how a word is asked for.
    """

    def __init__(self, segmenter: Segmenter | None, wording: Wording) -> None:
        self._segmenter, self._wording = segmenter, wording

    @property
    def known(self) -> bool:
        """Whether there is a segmenter."""
        return self._segmenter is not None

    def there(self, scene: Scene, job: Job) -> bool:
        """Return whether what a job changes is in the scene by its caption; False for a job that adds something."""
        kinds = [kind_of(category) for category in job.changes]
        return any(
            kind.outside or not kind.parts or any(self._text(part, scene.said) is not None for part in kind.parts)
            for kind in kinds
        )

    def of(self, scene: Scene, part: str) -> Tensor:
        """Return where the word that the caption says of a category is in the scene, bool [1, 1, H, W]."""
        text = self._text(part, scene.said)
        if text is None or self._segmenter is None:
            return torch.zeros_like(scene.pixels[:, :1], dtype=torch.bool)
        if text not in scene.regions:
            scene.regions[text] = self._segmenter.regions(scene.pixels, [text])
        return scene.regions[text]

    def seen(self, scene: Scene, part: str, pixels: Tensor) -> Tensor:
        """Return where the same word is in another picture [1, 3, H, W], bool [1, 1, H, W]."""
        text = self._text(part, scene.said)
        if text is None or self._segmenter is None:
            return torch.zeros_like(pixels[:, :1], dtype=torch.bool)
        return self._segmenter.regions(pixels, [text])

    def masks(self, scene: Scene, jobs: Sequence[Job], edited: Tensor) -> Tensor:
        """Return where each edited picture [B, 3, H, W] may differ from the scene, bool [B, 1, H, W].

        That is where the old thing was or the new one is, and a little around it, because the edge of a region is never
        exact; for a background everything but the things before it, whose edge stays theirs. Where no word says what to
        look for, it is the whole picture; what was looked for and is in neither picture is nowhere.
        """
        places, texts = [], []
        for i, job in enumerate(jobs):
            for part in dict.fromkeys(p for c in job.changes if not kind_of(c).outside for p in kind_of(c).parts):
                text = self._text(part, {**scene.said, **job.changes})
                if text is not None:
                    places.append(i)
                    texts.append(text)
        found = self.drawn(scene, jobs, empty=True)
        if places and self._segmenter is not None:
            for i, region in zip(places, self._segmenter.regions(edited[places], texts), strict=True):
                found[i] |= grown(region, GROW).bool()
        for i, job in enumerate(jobs):
            if i not in places and not self.there(scene, job):
                found[i] = True
        return found

    def drawn(self, scene: Scene, jobs: Sequence[Job], empty: bool = False) -> Tensor:
        """Return where each job acts as far as the picture itself says so, bool [B, 1, H, W].

        Args:
            scene: the picture.
            jobs: B jobs.
            empty: leave the region of a job that adds something empty; else it is all but the object.
        """
        found = torch.cat([self._own(scene, job) for job in jobs])
        if not empty:
            for i in range(len(jobs)):
                if not found[i].any():
                    found[i] = ~self.of(scene, "object")[0]
        return found

    def _own(self, scene: Scene, job: Job) -> Tensor:
        found = torch.zeros_like(scene.pixels[:, :1], dtype=torch.bool)
        for kind in map(kind_of, job.changes):
            if self._segmenter is None or not kind.parts:
                return torch.ones_like(found)
            own = torch.zeros_like(found)
            for part in kind.parts:
                own |= self.of(scene, part)
            found |= ~own if kind.outside else grown(own, GROW).bool()
        return found

    def _text(self, part: str, said: dict[str, str]) -> str | None:
        return self._wording.region(said[part], part) if part in said else None
