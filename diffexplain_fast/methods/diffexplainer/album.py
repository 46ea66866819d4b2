"""Pictures that neither a target nor a classifier decides: drawn once, they serve every target on a pipeline."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from diffexplain_fast.evidence.identity import conditions_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.watch import Watch

_ROOM = 256 * 2**20
"""Bytes of pictures that are kept for one pipeline, in the memory of the processor."""


@dataclass(eq=False)
class _Shelf:
    """The batches of one pipeline, as long as nobody edits its modules.

    Attributes:
        modules: of the pipeline.
        watch: notices that they were edited.
        batches: pictures [B, 3, H, W] and the rows that they took, by what decides them.
    """

    modules: list[nn.Module] = field(default_factory=list)
    watch: Watch | None = None
    batches: dict[tuple[object, ...], tuple[Tensor, int]] = field(default_factory=dict)

    def follow(self, pipeline: Pipeline) -> None:
        """Forget everything that was drawn before an edit."""
        modules = [pipeline.unet, pipeline.vae, *pipeline.text_encoders]
        if self.watch is None or self.modules != modules or self.watch.edited():
            self.batches.clear()
            self.modules, self.watch = modules, Watch(*modules)


_SHELVES: "WeakKeyDictionary[Pipeline, _Shelf]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Album:
    """Pictures of a pipeline and a sampler, which problems with other targets and classifiers share.

    Attributes:
        identity: what decides the pictures beside their key.
        room: bytes that are kept at most; where they are used up, no more is kept.
        shelf: of the pipeline.
    """

    identity: str = ""
    room: int = _ROOM
    shelf: _Shelf = field(default_factory=_Shelf)

    @torch.no_grad()
    def pictures(self, problem: Problem, key: tuple[object, ...], draw: Callable[[], Tensor]) -> Tensor:
        """Return pictures [B, 3, H, W] that are drawn only if they are not here.

        They cost what they cost when they were drawn, so that a budget ends the same work in every order of targets.

        Args:
            problem: what is explained.
            key: everything that decides the pictures, except pipeline, sampler, seed, prefix, steps and guidance.
            draw: draws them.
        """
        known = self.identity, problem.prefix, problem.steps, problem.guided, *_arithmetic(problem), *key
        if known in self.shelf.batches:
            pixels, rows = self.shelf.batches[known]
            problem.cost.count(rows, gradient=False)
            return pixels.to(problem.pipeline.device, copy=True)  # a classifier may write into what it is given
        before = problem.cost.forward
        pixels = draw()
        if self.room:
            self._keep(known, pixels.to("cpu", copy=True), problem.cost.forward - before)
        return pixels

    def _keep(self, known: tuple[object, ...], pixels: Tensor, rows: int) -> None:
        batches = self.shelf.batches
        used = sum(kept.nbytes for kept, _ in batches.values()) + pixels.nbytes
        for other in [key for key in batches if key[0] != self.identity]:  # of other samplers and seeds
            if used <= self.room:
                break
            used -= batches.pop(other)[0].nbytes
        if used <= self.room:
            batches[known] = pixels, rows


def _arithmetic(problem: Problem) -> tuple[object, ...]:
    """Return what decides the last bits of a picture beside the models: threads, autocast and products of matrices."""
    kind = torch.device(problem.pipeline.device).type
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return torch.get_num_threads(), autocast, torch.get_float32_matmul_precision()


def album_of(problem: Problem) -> Album:
    """Return the pictures that all problems with the same pipeline, sampler and seed share."""
    pipeline, sampler = problem.pipeline, problem.sampler
    shelf = _SHELVES.setdefault(pipeline, _Shelf())
    shelf.follow(pipeline)
    scheduler = pipeline.scheduler
    decides = [
        problem.seed,
        sampler.identity(),
        repr(sampler.schedule),
        dict(scheduler.config),
        [value.tolist() for value in vars(scheduler).values() if isinstance(value, Tensor)],  # tables may be edited
        conditions_of(pipeline, sampler.guidance_scale),
        [pipeline.vae.config.get(name) for name in ("scaling_factor", "latents_mean", "latents_std")],
        pipeline.latent_shape,
    ]
    # Hashed, because every key of a batch holds it, and the tables of a scheduler are long.
    identity = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
    return Album(identity, shelf=shelf)
