"""Models, inputs and runs that the fast engine's tests compare with plain autograd."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.memory.planner import Call, Planning
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.loading import load_pipeline
from tests.engine.plain import make_scheduler, relative
from tests.tiny import tiny_sd, tiny_sd2, tiny_sdxl

PREDICTIONS = {"sd15": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon", "tinyworld": "v_prediction"}
"""What each model predicts."""
STEP_LEVELS = ("keep", "narrow", "lean", "host", "attend", "block", "costly", "again", "tight", "step")
MIXED = ("keep", "costly", "step", "lean", "block", "host", "attend", "again", "narrow", "tight")
"""Levels of the first steps of a mixed plan, over and over."""


class Case(NamedTuple):
    """A sampler over one of the models.

    Attributes:
        model: key of ``PREDICTIONS``.
        kind: scheduler.
        steps: number of them.
        guidance: its scale.
        batch: images.
        gradient: mode.
    """

    model: str = "sd15"
    kind: str = "ddim"
    steps: int = 2
    guidance: float = 3.0
    batch: int = 1
    gradient: str = "full"

    def __str__(self) -> str:
        return f"{self.model}-{self.kind}-N{self.steps}-G{self.guidance:g}-B{self.batch}-{self.gradient}"


@cache
def parts(model: str, dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    """Return UNet and VAE of a model, made once; tests that change them make their own."""
    made = {"sd15": tiny_sd, "sd2": tiny_sd2, "sdxl": tiny_sdxl}.get(model)
    pipe = load_pipeline(model) if made is None else made()
    return SimpleNamespace(unet=pipe.unet.to(dtype), vae=pipe.vae.to(dtype))


def inputs_of(model: str, batch: int = 1, dtype: torch.dtype = torch.float64, seed: int = 7) -> dict[str, Tensor]:
    """Return a sampler's arguments for a model, every one of which could carry a gradient."""
    unet, generator = parts(model, dtype).unet, torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        # The same numbers in every dtype.
        return torch.randn(shape, generator=generator, dtype=torch.float64).float().to(dtype)

    width, size = unet.config.cross_attention_dim, unet.config.sample_size
    given = {
        "prompt_embeds": draw(batch, 5, width),
        "negative_prompt_embeds": draw(1, 5, width),
        "latents": draw(batch, unet.config.in_channels, size, size),
    }
    if unet.config.addition_embed_type:
        given |= {"pooled_prompt_embeds": draw(batch, 24), "negative_pooled_prompt_embeds": draw(1, 24)}
    return given


def sampler_for(case: Case, backend: str, dtype: torch.dtype = torch.float64, **options: Any) -> DifferentiableSampler:
    """Return the sampler of a case."""
    models = parts(case.model, dtype)
    return DifferentiableSampler(
        unet=models.unet,
        vae=models.vae,
        scheduler=make_scheduler(case.kind, PREDICTIONS[case.model]),
        num_inference_steps=case.steps,
        guidance_scale=case.guidance,
        backend=backend,
        gradient=case.gradient,
        **options,
    )


def cotangent_of(images: Tensor) -> Tensor:
    """Return random weights for the pixels, the same numbers in every dtype."""
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(images.dtype)


def results(sampler: DifferentiableSampler, given: dict[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
    """Return images, and by name the gradient of random weights of their pixels for each argument in ``wanted``.

    An argument that nothing flows to has no entry.
    """
    leaves = {name: value.detach().clone().requires_grad_(name in wanted) for name, value in given.items()}
    images = sampler(**leaves, generator=torch.Generator().manual_seed(11))
    found: dict[str, Tensor] = {"images": images.detach()}
    if images.requires_grad:
        asked = [leaves[name] for name in wanted]
        grads = torch.autograd.grad(images, asked, cotangent_of(images), allow_unused=True)
        found |= {name: grad for name, grad in zip(wanted, grads, strict=True) if grad is not None}
    return found


def arguments_of(case: Case) -> tuple[str, ...]:
    """Return the arguments of a case that a gradient flows to."""
    names = inputs_of(case.model)
    unused = set() if case.guidance != 1.0 else {name for name in names if name.startswith("negative")}
    unused |= {"latents"} if case.gradient.startswith("last") or case.gradient == "shortcut:2" else set()
    return tuple(name for name in names if name not in unused)


@cache
def truth(case: Case, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Return what plain autograd through the reference gives for every argument."""
    return results(sampler_for(case, "reference", dtype), inputs_of(case.model, case.batch, dtype), arguments_of(case))


@contextmanager
def levels(*names: str, decoder: str = "keep") -> Iterator[None]:
    """Let every fast sampler store by these levels, over and over, and plan nothing.

    Bounds are those of small models: every result is costly, only products of 16 channels and fewer are narrow, and no
    block of a decoder is small.
    """

    def chosen(planning: Planning, call: Call) -> list[str]:
        first = call.mode.first_step
        return [names[i % len(names)] if i >= first else "step" for i in range(call.steps)] + [decoder]

    small = {name: replace(LEVELS[name], costly=0.0) for name in ("costly", "tight")}
    small |= {name: replace(LEVELS[name], hidden=torch.inf) for name in ("slim", "apart")}
    small["narrow"] = replace(LEVELS["narrow"], products=64.0)
    with patch.object(Planning, "levels", chosen), patch.dict(LEVELS, small):
        yield


def assert_exact(case: Case, wanted: Sequence[str] | None = None, **options: Any) -> None:
    """Images and gradients of the fast engine are those of plain autograd, to 1e-10 of their size."""
    wanted = arguments_of(case) if wanted is None else tuple(wanted)
    got = results(sampler_for(case, "fast", **options), inputs_of(case.model, case.batch), wanted)
    assert set(got) == {"images", *wanted}
    assert_close(got, truth(case))


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Every entry of ``got`` is that of ``wanted`` to 1e-10 of its size, which is not nothing."""
    for name, value in got.items():
        assert value.dtype == torch.float64 and value.shape == wanted[name].shape, name
        assert wanted[name].norm() > 0 and relative(value, wanted[name]) <= 1e-10, name
