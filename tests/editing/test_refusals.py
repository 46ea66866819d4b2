"""What is wrong with an argument of an editor is said by its name; masks may be bool, and one may serve for all."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diffexplain_fast import editing
from diffexplain_fast.editing.inversion import Inversion, noised, reguided
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import Ancestral, ancestral_steps
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd


@pytest.fixture(scope="module")
def models() -> LatentModels:
    return LatentModels(load_pipeline(tiny_sd()))


@pytest.fixture(scope="module")
def table(models: LatentModels) -> Ancestral:
    return ancestral_steps(models.pipeline.scheduler, 2)


@pytest.fixture(scope="module")
def clean(models: LatentModels) -> torch.Tensor:
    return torch.randn(1, *models.pipeline.latent_shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def inversion(models: LatentModels, table: Ancestral, clean: torch.Tensor) -> Inversion:
    return editing.invert(models, table, clean, "a boat")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": "8"}, TypeError, "steps: wanted a whole number, got str"),
        ({"steps": 2.5}, TypeError, "steps: wanted a whole number, got float"),
        ({"steps": True}, TypeError, "steps: wanted a whole number, got bool"),
        ({"steps": 0}, ValueError, "steps: wanted from 1 to"),
        ({"seed": "x"}, TypeError, "seed: wanted a whole number, got str"),
        ({"seed": None}, TypeError, "seed: wanted a whole number, got NoneType"),
    ],
)
def test_a_reconstruction_says_what_is_wrong(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        editing.reconstruct(tiny_sd(), torch.rand(1, 3, 16, 16), **options)


def test_texts_are_sequences_of_texts(models: LatentModels, inversion: Inversion) -> None:
    with pytest.raises(TypeError, match="captions: wanted a sequence of texts, got str"):
        editing.mix(models, inversion, "a fish")
    with pytest.raises(TypeError, match="captions: wanted a sequence of texts, or None for no caption, got str"):
        models.text("fish")
    with pytest.raises(TypeError, match=r"captions: wanted .*, got int"):
        models.text([3])  # type: ignore[list-item]
    for call in (models.text, lambda texts: editing.mix(models, inversion, texts)):
        with pytest.raises(ValueError, match="captions: wanted at least one text, got none"):
            call([])
    with pytest.raises(TypeError, match=r"target: wanted what models\.text\(\[\.\.\.\]\) returns, got str"):
        editing.swap(models, inversion, "a fish")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pipeline: wanted an adapter, such as Explainer\.pipeline, got str"):
        LatentModels("tinyworld")  # type: ignore[arg-type]


def test_an_inversion_is_of_one_picture(models: LatentModels, table: Ancestral, clean: torch.Tensor) -> None:
    for invert in (editing.invert, editing.invert_reversibly):
        with pytest.raises(ValueError, match=r"clean: wanted the latent of one picture \[1, 4, h, w\]"):
            invert(models, table, clean.repeat(2, 1, 1, 1), "a boat")
        with pytest.raises(TypeError, match="caption: wanted text, or None for no caption, got list"):
            invert(models, table, clean, ["a boat"])  # type: ignore[arg-type]


def test_latents_have_the_channels_of_the_denoiser(models: LatentModels, table: Ancestral) -> None:
    for invert in (editing.invert, editing.invert_reversibly):
        with pytest.raises(
            ValueError, match=r"clean: wanted the latent of one picture \[1, 4, h, w\].*got \[1, 3, 8, 8\]"
        ):
            invert(models, table, torch.zeros(1, 3, 8, 8), "a boat")
    with pytest.raises(ValueError, match=r"sample: wanted latents \[B, 4, h, w\]"):
        models.predict(torch.zeros(1, 3, 8, 8), [1], models.text([""]))
    with pytest.raises(ValueError, match="text: wanted 3 texts, one for each latent, or one for all, got 2"):
        models.predict(torch.zeros(3, 4, 8, 8), [1, 1, 1], models.text(["", ""]))
    with pytest.raises(ValueError, match="timesteps: wanted 2, one for each latent, got 1"):
        models.predict(torch.zeros(2, 4, 8, 8), [1], models.text([""]))


@pytest.mark.parametrize(
    ("guidance", "error", "got"),
    [
        ("7.5", TypeError, "str"),
        (None, TypeError, "NoneType"),
        (True, TypeError, "bool"),
        ([3.0, "2"], TypeError, "str"),
        (float("nan"), ValueError, "nan"),
        ([3.0, float("nan")], ValueError, "nan"),
        ([float("inf"), 1.0], ValueError, "inf"),
        ([3.0], ValueError, "1 numbers"),
    ],
)
def test_guidance_is_a_number_or_one_for_each_step(
    models: LatentModels,
    inversion: Inversion,
    table: Ancestral,
    clean: torch.Tensor,
    guidance: Any,
    error: Any,
    got: str,
) -> None:
    message = rf"guidance: wanted a finite number, or one for each of 2 steps, or \(\) for none, got {got}$"
    with pytest.raises(error, match=message):
        editing.invert(models, table, clean, "a boat", guidance=guidance)
    with pytest.raises(error, match=message):
        reguided(models, inversion, guidance)


@pytest.mark.parametrize("guidance", [7, 7.5, np.float32(7.5)])
def test_one_number_of_guidance_means_every_step(
    models: LatentModels, inversion: Inversion, table: Ancestral, clean: torch.Tensor, guidance: float
) -> None:
    wanted = editing.invert(models, table, clean, "a boat", guidance=(float(guidance),) * 2)
    for found in (
        editing.invert(models, table, clean, "a boat", guidance=guidance),
        reguided(models, inversion, guidance),
    ):
        assert found.guidance == wanted.guidance and torch.equal(found.residuals, wanted.residuals)


def test_what_is_no_model_table_or_inversion_is_named(
    models: LatentModels, table: Ancestral, inversion: Inversion, clean: torch.Tensor
) -> None:
    text, masks, pipe = models.text(["a fish"]), torch.ones(1, 1, *clean.shape[-2:]), tiny_sd()
    samples = noised(table, clean)
    reversal = editing.invert_reversibly(models, table, clean, "a boat")
    calls: list[tuple[str, str, Callable[[], object]]] = [
        ("models", "StableDiffusionPipeline", lambda: editing.invert(pipe, table, clean, "")),
        ("models", "StableDiffusionPipeline", lambda: editing.invert_reversibly(pipe, table, clean, "")),
        ("models", "StableDiffusionPipeline", lambda: editing.swap(pipe, inversion, text)),
        ("models", "StableDiffusionPipeline", lambda: editing.guide(pipe, inversion, text)),
        ("models", "StableDiffusionPipeline", lambda: editing.inpaint(pipe, inversion, text, masks)),
        ("models", "StableDiffusionPipeline", lambda: editing.mix(pipe, inversion, ["a fish"])),
        ("models", "StableDiffusionPipeline", lambda: editing.swap_reversibly(pipe, reversal, text)),
        ("models", "StableDiffusionPipeline", lambda: reguided(pipe, inversion, ())),
        ("table", "int", lambda: editing.invert(models, 3, clean, "")),
        ("table", "int", lambda: editing.invert_reversibly(models, 3, clean, "")),
        ("table", "int", lambda: noised(3, clean)),
        ("inversion", "Noised", lambda: editing.swap(models, samples, text)),
        ("inversion", "Noised", lambda: editing.guide(models, samples, text)),
        ("inversion", "Noised", lambda: editing.mix(models, samples, ["a fish"])),
        ("inversion", "Noised", lambda: reguided(models, samples, ())),
        ("inversion", "Tensor", lambda: editing.inpaint(models, clean, text, masks)),
        ("reversal", "Inversion", lambda: editing.swap_reversibly(models, inversion, text)),
        ("seed", "str", lambda: noised(table, clean, seed="x")),
    ]
    for name, got, call in calls:
        with pytest.raises(TypeError, match=f"^{name}: wanted .*, got {got}$"):
            call()
    assert editing.inpaint(models, samples, text, masks).shape == clean.shape


@pytest.mark.parametrize("editor", [editing.swap, editing.inpaint])
def test_masks_are_of_latents_one_for_each_target(
    models: LatentModels, inversion: Inversion, clean: torch.Tensor, editor: Any
) -> None:
    one, two = models.text(["a fish"]), models.text(["a fish", "a house"])
    left = torch.zeros(1, 1, *clean.shape[-2:])
    left[..., :2] = 1
    wanted = editor(models, inversion, two, masks=torch.cat([left, left]))
    assert torch.equal(editor(models, inversion, two, masks=left), wanted)
    assert torch.equal(editor(models, inversion, two, masks=torch.cat([left, left]).bool()), wanted)
    assert editor(models, inversion, one, masks=left.repeat(3, 1, 1, 1)).shape[0] == 3
    for masks in (left.repeat(3, 1, 1, 1), torch.ones(2, 1, 16, 16), left[0], left[:0]):
        with pytest.raises(ValueError, match=r"masks: wanted \[2, 1, .*, a mask of latents for each target, or one"):
            editor(models, inversion, two, masks=masks)
    with pytest.raises(ValueError, match=r"masks: wanted \[1, 1, .*got \[0, 1, 8, 8\]"):
        editor(models, inversion, one, masks=left[:0])
    with pytest.raises(ValueError, match="masks: wanted numbers from 0 to 1, got 0 to 2"):
        editor(models, inversion, one, masks=2 * left)
    with pytest.raises(TypeError, match="masks: wanted a tensor"):
        editor(models, inversion, one, masks="left")


def test_numbers_have_their_ranges(models: LatentModels, inversion: Inversion, clean: torch.Tensor) -> None:
    text, masks = models.text(["a fish", "a house"]), torch.ones(2, 1, *clean.shape[-2:])
    with pytest.raises(ValueError, match=r"guidance_scale: wanted a finite number of at least 1, got 0\.0"):
        editing.inpaint(models, inversion, text, masks, guidance_scale=0.0)
    with pytest.raises(TypeError, match="seed: wanted a whole number, got float"):
        editing.inpaint(models, inversion, text, masks, seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="strength: wanted a finite number, got nan"):
        editing.swap(models, inversion, text, strength=float("nan"))
    with pytest.raises(ValueError, match="removed: wanted 2 texts, as many as are added, or one, got 3"):
        editing.guide(models, inversion, text, models.text(["a", "b", "c"]))
    with pytest.raises(TypeError, match="quantile: wanted a finite number, got str"):
        editing.guide(models, inversion, text, quantile="a")  # type: ignore[arg-type]
    assert len(editing.guide(models, inversion, text, models.text(["a boat"]))) == 2
