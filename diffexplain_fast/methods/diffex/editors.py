"""One editor runs on jobs of a scene, in full or as its quick version, with the inversions that edits share."""

from collections.abc import Sequence

from torch import Tensor

from diffexplain_fast.editing.editors import guide, inpaint, swap
from diffexplain_fast.editing.inversion import Inversion, invert, noised, reguided
from diffexplain_fast.editing.latents import LatentModels, latent_mask
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.methods.diffex import kinds
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Scene


class Editors:
    """Runs editors.

    Args:
        models: encoder, denoiser and decoder.
        regions: where jobs act.
        seed: decides the noise that the drawings of a region share.
    """

    def __init__(self, models: LatentModels, regions: Regions, seed: int) -> None:
        self._models, self._regions, self._seed = models, regions, seed

    def drawn(
        self, scene: Scene, jobs: Sequence[Job], editors: Sequence[str], noise: int, quick: bool = False
    ) -> Tensor:
        """Return what the editor of each of B jobs draws [B, 3, H, W], the whole picture of it."""
        latents = scene.clean.repeat(len(jobs), 1, 1, 1)
        for editor in dict.fromkeys(editors):
            places = [i for i, name in enumerate(editors) if name == editor]
            latents[places] = self.edited(scene, [jobs[i] for i in places], editor, noise, quick)
        return self._models.decode(latents).clamp(0, 1)

    def edited(self, scene: Scene, jobs: Sequence[Job], editor: str, noise: int, quick: bool = False) -> Tensor:
        """Return the latents [B, c, h, w] of jobs that one editor draws."""
        if editor == kinds.GUIDE:
            inversion = self.inversion(scene, "", kinds.steps_of(editor, quick)[0], noise)
            said = [[scene.said.get(name, "") for name in job.changes] for job in jobs]
            added = self._models.text([" ".join(job.changes.values()) for job in jobs])
            return guide(self._models, inversion, added, self._models.text([" ".join(words) for words in said]))
        regions = latent_mask(self._regions.drawn(scene, jobs), scene.clean.shape[-2:], kinds.GROW)
        return self.run(scene, jobs, editor, noise, regions, quick)

    def run(
        self, scene: Scene, jobs: Sequence[Job], editor: str, noise: int, regions: Tensor, quick: bool = False
    ) -> Tensor:
        """Run an editor that replaces the caption, on regions [B, 1, h, w] where it has any."""
        target = self._models.text([job.caption for job in jobs])
        steps, guidance = kinds.steps_of(editor, quick)
        if editor == kinds.INPAINT:
            # Fresh noise is drawn inside, so every try can share the picture's own noisy samples.
            table = ancestral_steps(self._models.pipeline.scheduler, steps)
            return inpaint(self._models, noised(table, scene.clean, self._seed), target, regions, seed=noise)
        inversion = self.inversion(scene, scene.caption, steps, noise, guidance)
        strength = kinds.STRENGTH if editor == kinds.STRONGER else 1.0
        return swap(self._models, inversion, target, strength, regions if guidance else None)

    def inversion(
        self, scene: Scene, caption: str, steps: int, seed: int, guidance: tuple[float, ...] = ()
    ) -> Inversion:
        """Return an inversion of a scene, computed once; one with guidance from that of the same noise without."""
        plain, key = (caption, steps, seed, ()), (caption, steps, seed, guidance)
        if plain not in scene.inversions:
            table = ancestral_steps(self._models.pipeline.scheduler, steps)
            scene.inversions[plain] = invert(self._models, table, scene.clean, caption, seed)
        if key not in scene.inversions:
            scene.inversions[key] = reguided(self._models, scene.inversions[plain], guidance)
        return scene.inversions[key]
