"""Jobs become pictures: the editor of a try runs, and the user's own pixels stay wherever the job has no business."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels, latent_mask, pasted
from diffexplain_fast.evidence.shipped import Shipped, Wording
from diffexplain_fast.methods.diffex import kinds
from diffexplain_fast.methods.diffex.editors import Editors
from diffexplain_fast.methods.diffex.moving import Moving
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Pictures, Scene
from diffexplain_fast.methods.diffex.standing import Standing

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
        self._editors = Editors(models, self.regions, seed)
        self._moving = Moving(self.regions, self._without, asked)
        self._standing = Standing(self.regions, self._without, wording, asked)

    def scene(self, index: int, pixels: Tensor, caption: str) -> Scene:
        """Return a scene of pixels [1, 3, H, W]."""
        clean = self.models.encode(pixels)
        return Scene(index, pixels, caption, self.wording.said(caption), clean, self.models.decode(clean))

    def editor(self, scene: Scene, job: Job, attempt: int) -> str:
        """Return the editor of one try of a job."""
        small = self._is_small(scene, job)
        return kinds.editor_for(tuple(job.changes), attempt, self._asked, self.regions.known, small)

    def quick_editor(self, job: Job) -> str:
        """Return the editor whose quick version ranks a job, which is the same one in every picture."""
        return kinds.quick_of(kinds.editor_for(tuple(job.changes), 0, self._asked, self.regions.known))

    def taken_out(self, scene: Scene, jobs: Sequence[Job]) -> set[str]:
        """Return the categories of the things that jobs move, make smaller or stand before: what is behind is drawn."""
        moved = {part for job in jobs if (part := self._moving.part(job)) is not None}
        return moved.union(*(self._standing.parts(scene, job) for job in jobs))

    def draw(self, scene: Scene, jobs: Sequence[Job], attempt: int, seed: int) -> Pictures:
        """Run one try of jobs.

        Args:
            scene: the picture.
            jobs: at least one.
            attempt: 0, 1 or 2.
            seed: number of the repetition; every try of it has noise of its own.
        """
        editors, noise = (
            [self.editor(scene, job, attempt) for job in jobs],
            self._seed * 1000 + seed * kinds.TRIES + attempt,
        )
        edited = self._editors.drawn(scene, [self._standing.drawn(scene, job) for job in jobs], editors, noise)
        if not (attempt or seed):
            self._keep_behind(scene, jobs, editors, edited)
        edited, masks = self._moving.put(scene, jobs, edited, self.regions.masks(scene, jobs, edited))
        edited, masks = self._standing.put(scene, jobs, edited, masks)
        return self._pasted(scene, edited, masks, editors)

    def quick(self, scene: Scene, jobs: Sequence[Job]) -> Pictures:
        """Run the quick version of the first try of jobs, in which no thing is moved or put back: enough to rank."""
        editors = [self.quick_editor(job) for job in jobs]
        edited = self._editors.drawn(scene, jobs, editors, self._seed * 1000, quick=True)
        return self._pasted(scene, edited, self.regions.masks(scene, jobs, edited), editors)

    def placebo(self, scene: Scene, editor: str, masks: Tensor) -> Pictures:
        """Return pictures of edits that say the same again, pasted by the masks of real edits [B, 1, H, W].

        Each has noise of its own: a swap another inversion, inpainting another drawing of the same thing.
        """
        frames = [frame.format(scene.caption) for frame in self.wording.placebos]
        same = Job((), {}, next(filter(self.models.pipeline.fits, frames), scene.caption))
        regions = latent_mask(masks, scene.clean.shape[-2:], kinds.GROW)
        noises = [self._seed * 1000 + i for i in range(len(masks))]
        pairs = zip(noises, regions, strict=True)
        drawn = torch.cat([self._editors.run(scene, [same], editor, noise, region[None]) for noise, region in pairs])
        return self._pasted(scene, self.models.decode(drawn).clamp(0, 1), masks, [editor] * len(masks))

    def redrawn(self, scene: Scene, masks: Tensor, captions: Sequence[str] = ()) -> Pictures:
        """Return pictures whose regions [B, 1, H, W] are drawn anew, with captions of their own or the scene's."""
        regions = latent_mask(masks, scene.clean.shape[-2:], kinds.GROW)
        jobs = [Job((), {}, caption) for caption in captions or [scene.caption] * len(masks)]
        drawn = self._editors.run(scene, jobs, kinds.INPAINT, self._seed * 1000 + _OF_REDRAWS, regions)
        return self._pasted(scene, self.models.decode(drawn).clamp(0, 1), masks, [kinds.INPAINT] * len(masks))

    def baseline(self, scene: Scene, masks: Tensor) -> Tensor:
        """Return the picture [B, 3, H, W] as the autoencoder gives it inside of masks, and as it is outside."""
        return pasted(scene.pixels, scene.decoded.clamp(0, 1).expand(len(masks), -1, -1, -1), masks, grow=0)

    def _is_small(self, scene: Scene, job: Job) -> bool:
        """Return whether a job draws something in place of a small thing; False where it takes the thing away."""
        parts = {part for category in job.changes for part in kinds.kind_of(category).parts}
        if any(job.caption == self.wording.without(scene.caption, part) for part in parts):
            return False
        height, width = scene.clean.shape[-2:]
        area = sum(int(self.regions.of(scene, part).sum()) for part in parts)
        return 0 < area * height * width < kinds.SMALL * scene.pixels[0, 0].numel()

    def _keep_behind(self, scene: Scene, jobs: Sequence[Job], editors: Sequence[str], edited: Tensor) -> None:
        """Keep first tries [B, 3, H, W] of jobs that take a thing away, of any success: ``_without`` draws the same."""
        wanted = self.taken_out(scene, jobs) - scene.behind.keys()
        for job, editor, picture in zip(jobs, editors, edited, strict=True):
            part = next(iter(job.changes)) if len(job.changes) == 1 else ""
            same = part in wanted and job.caption == self.wording.without(scene.caption, part)
            if same and editor == kinds.behind_of(part):
                scene.behind[part] = picture.clone()

    def _without(self, scene: Scene, part: str) -> Tensor:
        """Return the scene [3, H, W] without a thing, drawn once, as the first try of an edit that takes it away."""
        job = Job((), {part: ""}, self.wording.without(scene.caption, part))
        if part not in scene.behind:
            latents = self._editors.edited(scene, [job], kinds.behind_of(part), self._seed * 1000)
            scene.behind[part] = self.models.decode(latents)[0].clamp(0, 1)
        behind = scene.behind[part][None]
        return pasted(scene.decoded.clamp(0, 1), behind, self.regions.drawn(scene, [job]), grow=0)[0]

    def _pasted(self, scene: Scene, edited: Tensor, masks: Tensor, editors: list[str]) -> Pictures:
        return Pictures(pasted(scene.pixels, edited, masks, grow=0), self.baseline(scene, masks), editors, masks)
