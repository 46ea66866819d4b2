"""What is wrong with an argument of an editor is said by its name; masks may be bool, and one may serve for all."""

from typing import Any

import pytest
import torch

from diffexplain_fast import editing
from diffexplain_fast.editing.inversion import Inversion
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
        with pytest.raises(ValueError, match=r"clean: wanted the latent of one picture \[1, c, h, w\]"):
            invert(models, table, clean.repeat(2, 1, 1, 1), "a boat")
        with pytest.raises(TypeError, match="caption: wanted text, or None for no caption, got list"):
            invert(models, table, clean, ["a boat"])  # type: ignore[arg-type]


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
    for masks in (left.repeat(3, 1, 1, 1), torch.ones(2, 1, 16, 16), left[0]):
        with pytest.raises(ValueError, match=r"masks: wanted \[2, 1, .*, a mask of latents for each target, or one"):
            editor(models, inversion, two, masks=masks)
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
