"""Jobs become pictures: the editor of a try runs, and the user's own pixels stay wherever the job has no business."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.editing.editors import guide, inpaint, swap
from diffexplain_fast.editing.inversion import Inversion, invert, noised
from diffexplain_fast.editing.latents import LatentModels, latent_mask, pasted
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.evidence.shipped import Shipped, Wording
from diffexplain_fast.methods.diffex import kinds
from diffexplain_fast.methods.diffex.moving import Moving
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Pictures, Scene

_OF_REDRAWS = 999
"""Number of the noise of regions that are drawn anew; repetitions and their tries count from 0."""


class Drawing:
    """Runs editors on scenes.

    Attributes:
        steps: of an edit, by editor.

    Args:
        models: encoder, denoiser and decoder.
        shipped: what looks at pictures.
        wording: of the captions.
        asked: one of ``kinds.EDITORS``.
        seed: decides all noise.
    """

    def __init__(self, models: LatentModels, shipped: Shipped, wording: Wording, asked: str, seed: int) -> None:
        self.models, self.wording, self.steps = models, wording, kinds.STEPS
        self._asked, self._seed = asked, seed
        self.regions = Regions(shipped.segmenter, wording)
        self._moving = Moving(self.regions, self._without, asked)

    def scene(self, index: int, pixels: Tensor, caption: str) -> Scene:
        """Return a scene of pixels [1, 3, H, W]."""
        clean = self.models.encode(pixels)
        return Scene(index, pixels, caption, self.wording.said(caption), clean, self.models.decode(clean))

    def editor(self, job: Job, attempt: int) -> str:
        """Return the editor of one try of a job."""
        return kinds.editor_for(tuple(job.changes), attempt, self._asked, self.regions.known)

    def rows(self, jobs: Sequence[Job], attempt: int) -> int:
        """Return about how many rows a try of jobs takes, with an inversion for each editor.

        What is behind a thing that is moved is a drawing too.
        """
        editors = [self.editor(job, attempt) for job in jobs] + [kinds.GUIDED] * any(map(self._moving.part, jobs))
        return sum(map(kinds.rows_of, editors)) + sum(map(kinds.rows_before, dict.fromkeys(editors)))

    def draw(self, scene: Scene, jobs: Sequence[Job], attempt: int, seed: int) -> Pictures:
        """Run one try of jobs.

        Args:
            scene: the picture.
            jobs: at least one.
            attempt: 0, 1 or 2.
            seed: number of the repetition; every try of it has noise of its own.
        """
        editors, noise = [self.editor(job, attempt) for job in jobs], self._seed * 1000 + seed * kinds.TRIES + attempt
        latents = scene.clean.repeat(len(jobs), 1, 1, 1)
        for editor in dict.fromkeys(editors):
            places = [i for i, name in enumerate(editors) if name == editor]
            latents[places] = self._edited(scene, [jobs[i] for i in places], editor, noise)
        edited = self.models.decode(latents).clamp(0, 1)
        edited, masks = self._moving.put(scene, jobs, edited, self.regions.masks(scene, jobs, edited))
        return self._pasted(scene, edited, masks, editors)

    def quick(self, scene: Scene, jobs: Sequence[Job], steps: int) -> Tensor:
        """Return pictures [B, 3, H, W] of swaps in a few steps, not pasted back: enough to rank jobs."""
        inversion = self.inversion(scene, scene.caption, steps, self._seed)
        return self.models.decode(swap(self.models, inversion, self.models.text([job.caption for job in jobs])))

    def placebo(self, scene: Scene, editor: str, masks: Tensor) -> Pictures:
        """Return pictures of edits that say the same again, pasted by the masks of real edits [B, 1, H, W].

        Each has noise of its own: a swap another inversion, inpainting another drawing of the same thing.
        """
        frames = [frame.format(scene.caption) for frame in self.wording.placebos]
        same = Job((), {}, next(filter(self.models.pipeline.fits, frames), scene.caption))
        regions = latent_mask(masks, scene.clean.shape[-2:], kinds.GROW)
        noises = [self._seed * 1000 + i for i in range(len(masks))]
        pairs = zip(noises, regions, strict=True)
        drawn = torch.cat([self._run(scene, [same], editor, noise, region[None]) for noise, region in pairs])
        return self._pasted(scene, self.models.decode(drawn).clamp(0, 1), masks, [editor] * len(masks))

    def redrawn(self, scene: Scene, masks: Tensor, captions: Sequence[str] = ()) -> Pictures:
        """Return pictures whose regions [B, 1, H, W] are drawn anew, with captions of their own or the scene's."""
        regions = latent_mask(masks, scene.clean.shape[-2:], kinds.GROW)
        jobs = [Job((), {}, caption) for caption in captions or [scene.caption] * len(masks)]
        drawn = self._run(scene, jobs, kinds.INPAINT, self._seed * 1000 + _OF_REDRAWS, regions)
        return self._pasted(scene, self.models.decode(drawn).clamp(0, 1), masks, [kinds.INPAINT] * len(masks))

    def baseline(self, scene: Scene, masks: Tensor) -> Tensor:
        """Return the picture [B, 3, H, W] as the autoencoder gives it inside of masks, and as it is outside."""
        return pasted(scene.pixels, scene.decoded.clamp(0, 1).expand(len(masks), -1, -1, -1), masks, grow=0)

    def inversion(
        self, scene: Scene, caption: str, steps: int, seed: int, guidance: tuple[float, ...] = ()
    ) -> Inversion:
        """Return an inversion of a scene, computed once."""
        key = (caption, steps, seed, guidance)
        if key not in scene.inversions:
            table = ancestral_steps(self.models.pipeline.scheduler, steps)
            scene.inversions[key] = invert(self.models, table, scene.clean, caption, seed, guidance)
        return scene.inversions[key]

    def _without(self, scene: Scene, part: str, jobs: Sequence[Job], edited: Tensor) -> Tensor:
        """Return the scene [3, H, W] without a thing: the picture of the job that takes it away, or one of its own."""
        job = Job((), {part: ""}, self.wording.without(scene.caption, part))
        drawn = next(
            (edited[i] for i, other in enumerate(jobs) if other.caption == job.caption), scene.behind.get(part)
        )
        if drawn is None:
            latents = self._edited(scene, [job], kinds.GUIDED, self._seed * 1000)
            drawn = scene.behind[part] = self.models.decode(latents)[0].clamp(0, 1)
        return pasted(scene.decoded.clamp(0, 1), drawn[None], self.regions.drawn(scene, [job]), grow=0)[0]

    def _pasted(self, scene: Scene, edited: Tensor, masks: Tensor, editors: list[str]) -> Pictures:
        return Pictures(pasted(scene.pixels, edited, masks, grow=0), self.baseline(scene, masks), editors, masks)

    def _edited(self, scene: Scene, jobs: Sequence[Job], editor: str, noise: int) -> Tensor:
        if editor == kinds.GUIDE:
            inversion = self.inversion(scene, "", kinds.STEPS[kinds.GUIDE], noise)
            said = [[scene.said.get(name, "") for name in job.changes] for job in jobs]
            added = self.models.text([" ".join(job.changes.values()) for job in jobs])
            return guide(self.models, inversion, added, self.models.text([" ".join(words) for words in said]))
        regions = latent_mask(self.regions.drawn(scene, jobs), scene.clean.shape[-2:], kinds.GROW)
        return self._run(scene, jobs, editor, noise, regions)

    def _run(self, scene: Scene, jobs: Sequence[Job], editor: str, noise: int, regions: Tensor) -> Tensor:
        """Run an editor that replaces the caption, on regions [B, 1, h, w] where it has any."""
        target, steps = self.models.text([job.caption for job in jobs]), kinds.STEPS[editor]
        if editor == kinds.INPAINT:
            # Fresh noise is drawn inside, so every try can share the picture's own noisy samples.
            table = ancestral_steps(self.models.pipeline.scheduler, steps)
            return inpaint(self.models, noised(table, scene.clean, self._seed), target, regions, seed=noise)
        guidance = kinds.GUIDANCE.get(editor, ())
        inversion = self.inversion(scene, scene.caption, steps, noise, guidance)
        strength = kinds.STRENGTH if editor == kinds.STRONGER else 1.0
        return swap(self.models, inversion, target, strength, regions if guidance else None)
