"""Things that stand before a background: it is drawn without them, and their own pixels are put before it.

Drawn with its things, a new background gets them a second time, a little elsewhere, beside the picture's own ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.kinds import kind_of
from diffexplain_fast.methods.diffex.layers import Layer, layer_of
from diffexplain_fast.methods.diffex.moving import FEWEST, Without
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Scene


class Standing:
    """Leaves things out of a background that is drawn, and puts them before it.

    Args:
        regions: of words in pictures.
        without: gives a scene without one of its things.
        wording: of the captions.
        asked: one of ``kinds.EDITORS``; an editor that a caller asked for by name draws whatever it edits.
    """

    def __init__(self, regions: Regions, without: Without, wording: Wording, asked: str) -> None:
        self._regions, self._without, self._wording = regions, without, wording
        self._automatic = asked == "auto"

    def parts(self, scene: Scene, job: Job) -> tuple[str, ...]:
        """Return the categories of the things that stand before what a job draws, the foremost first.

        A thing that the segmenter does not find in the picture is drawn, because it cannot be put back.
        """
        kinds = [kind_of(category) for category in job.changes]
        if not (self._automatic and self._regions.known and len(kinds) == 1 and kinds[0].outside):
            return ()
        return tuple(part for part in kinds[0].parts if int(self._regions.of(scene, part).sum()) >= FEWEST)

    def drawn(self, scene: Scene, job: Job) -> Job:
        """Return a job whose caption leaves out the things that are put back."""
        caption = job.caption
        for part in self.parts(scene, job):
            caption = self._wording.without(caption, part)
        return job._replace(caption=caption)

    def put(self, scene: Scene, jobs: Sequence[Job], edited: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return edited pictures with the things before them, and where they may differ from the scene.

        A thing is taken from the picture as the autoencoder gives it, because an effect is measured against that one.
        The picture may differ wherever no thing covers it wholly.

        Args:
            scene: the picture.
            jobs: B jobs.
            edited: their pictures [B, 3, H, W], as the generator has drawn them.
            masks: where they may differ, bool [B, 1, H, W].
        """
        found, masks = edited.clone(), masks.clone()
        layers: dict[str, Layer] = {}
        for i, job in enumerate(jobs):
            parts = self.parts(scene, job)
            for part in reversed(parts):
                if part not in layers:
                    behind = self._without(scene, part)
                    region = self._regions.of(scene, part)[0]
                    layers[part] = _whole(layer_of(scene.decoded[0].clamp(0, 1), behind, region), behind, region)
                found[i] = layers[part].over(found[i]).clamp(0, 1)
            if parts:
                masks[i] = torch.stack([layers[part].opacity for part in parts]).amax(0) < 1
        return found, masks


def _whole(thing: Layer, behind: Tensor, region: Tensor) -> Layer:
    """Return a thing that covers all of its region [1, H, W].

    Before what it stood in front of, an edge of the same colour is not missed; before something else its outline is.
    """
    opacity = torch.maximum(thing.opacity, region.float())
    return Layer(thing.colours + (opacity - thing.opacity) * behind, opacity)
