"""Inversion and reconstruction: exact in latents, and in pixels with what the autoencoder loses put back."""

import copy

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.editing.editors import guide, inpaint, swap
from diffexplain_fast.editing.inversion import invert, reguided
from diffexplain_fast.editing.latents import LatentModels, latent_mask, pasted
from diffexplain_fast.editing.pictures import as_image, as_pixels
from diffexplain_fast.editing.reversible import Reversal, invert_reversibly, swap_reversibly
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import IMAGE_SIZE, tiny_sd, tiny_sd2, tiny_sdxl


def pictures(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("count", [1, 4, 8, 20])
def test_a_step_is_the_one_of_ddim_with_eta_1_at_the_same_levels(kind: str, count: int) -> None:
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True, prediction_type=kind)
    scheduler.set_timesteps(count, device="cpu")
    table = ancestral_steps(scheduler, count)
    assert table.steps[0].timestep == 999 and table.steps[-1].noise == 0
    generator = torch.Generator().manual_seed(0)
    x, o, z = (torch.randn(5, dtype=torch.float64, generator=generator) for _ in range(3))
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    for step in table.steps:
        expected = scheduler.step(o, step.timestep, x, eta=1.0, variance_noise=z).prev_sample
        assert torch.allclose(step.sample * x + step.output * o + step.noise * z, expected, rtol=0, atol=1e-6)


def test_steps_are_even_from_the_last_timestep() -> None:
    steps = ancestral_steps(DDPMScheduler(), 8).steps
    assert [step.timestep for step in steps] == [999, 874, 749, 624, 499, 374, 249, 124]


@pytest.mark.parametrize("count", [0, 1001])
def test_too_few_or_too_many_steps_are_named(count: int) -> None:
    with pytest.raises(ValueError, match=f"steps: wanted from 1 to 1000.*got {count}"):
        ancestral_steps(DDPMScheduler(), count)


def test_another_guidance_runs_only_the_rows_without_a_caption() -> None:
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    table, clean = ancestral_steps(models.pipeline.scheduler, 4), models.encode(pictures(1))
    plain = invert(models, table, clean, "a red boat", seed=3)
    before = models.denoiser_rows
    found = reguided(models, plain, (3.0, 2.0, 1.0, 1.0))
    assert models.denoiser_rows - before == 2 and found.scale(1) == 2.0 and plain.scale(1) == 1.0
    known = invert(models, table, clean, "a red boat", seed=3, guidance=(3.0, 2.0, 1.0, 1.0))
    assert torch.equal(found.residuals, known.residuals) and torch.equal(found.samples, known.samples)
    assert torch.equal(reguided(models, found, ()).residuals, plain.residuals)
    with pytest.raises(
        ValueError, match=r"guidance: wanted a finite number, or one for each of 4 steps.*, got 2 numbers"
    ):
        reguided(models, plain, (3.0, 2.0))


@pytest.mark.parametrize("make", [tiny_sd, tiny_sd2, tiny_sdxl], ids=["sd", "sd2", "sdxl"])
def test_any_pipeline_gives_its_pictures_back(make) -> None:
    pixels = pictures()
    found = dx.editing.reconstruct(make(), pixels, steps=5, captions=["a red boat", "a fish", "a tree"])
    assert found.latent_error < 1e-4 and (found.pixels - pixels).abs().max() < 1e-4
    assert found.vae_error > 0.05  # so that the pixels are exact only because of what is put back


def test_the_tiny_world_is_within_the_bar() -> None:
    images = [tinyworld.render(object="boat", background="sea", seed=seed).image for seed in (1, 2)]
    found = dx.editing.reconstruct("tinyworld", images, captions=["a boat on sea", "a boat on sea"])
    assert found.latent_error <= 1e-4
    assert (found.pixels - as_pixels(images, (64, 64))).abs().max() * 255 <= 0.01
    assert found.denoiser_rows == 2 * (8 + 8 * 8)  # every batch is filled up to eight rows


def test_half_precision_is_exact_too_and_rows_can_be_saved() -> None:
    pipe, pixels = tiny_sd().to(dtype=torch.bfloat16), pictures(1)
    found = dx.editing.reconstruct(pipe, pixels, steps=4)
    assert found.denoiser_rows == 8 + 4 * 8 and found.latent_error == 0  # a sample's last bit decides its half
    models = LatentModels(load_pipeline(tiny_sd()), one_shape=False)
    clean = models.encode(pixels)
    inversion = invert(models, ancestral_steps(models.pipeline.scheduler, 4), clean, "")
    edited = swap(models, inversion, models.text([""]))
    assert models.denoiser_rows == 4 + 4 and torch.allclose(edited, clean, rtol=0, atol=1e-3)


def test_nothing_in_the_modules_is_changed() -> None:
    pipe = tiny_sd()
    pipe.unet.train()
    before = copy.deepcopy(pipe.unet.state_dict())
    dx.editing.reconstruct(pipe, pictures(1), steps=2)
    assert pipe.unet.training and all(weight.requires_grad for weight in pipe.unet.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in pipe.unet.state_dict().items())


def test_a_guided_swap_is_exact_and_keeps_all_outside_of_a_mask() -> None:
    models = LatentModels(load_pipeline(tiny_sd()))
    clean = models.encode(pictures(1))
    table = ancestral_steps(models.pipeline.scheduler, 4)
    inversion = invert(models, table, clean, "a red boat", seed=3, guidance=(2.0, 3.0, 1.0, 1.0))
    assert models.denoiser_rows == 2 * 8 and [inversion.scale(i) for i in range(4)] == [2.0, 3.0, 1.0, 1.0]
    assert torch.allclose(swap(models, inversion, models.text(["a red boat"])), clean, rtol=0, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"guidance: wanted a finite number, or one for each of 4 steps.*, got 3 numbers"
    ):
        invert(models, table, clean, "a red boat", guidance=(2.0, 2.0, 2.0))
    saved = LatentModels(models.pipeline, one_shape=False)
    swap(saved, invert(saved, table, clean, "", guidance=(2.0, 3.0, 1.0, 1.0)), saved.text(["a fish"]))
    assert saved.denoiser_rows == (4 + 2) + (4 + 2)
    target, plain = models.text(["a blue boat"]), invert(models, table, clean, "a red boat", seed=3)
    assert torch.equal(inversion.samples, plain.samples)
    edited = swap(models, inversion, target)
    assert not torch.allclose(edited, swap(models, plain, target), atol=1e-3)  # guidance is more than a name
    masks = torch.zeros(1, 1, *clean.shape[-2:])
    masks[..., :2] = 1
    kept = swap(models, inversion, target, masks=masks)
    assert torch.equal(kept[..., 2:], clean[..., 2:]) and not torch.allclose(kept[..., :2], clean[..., :2], atol=1e-3)


def test_a_reversible_solver_retraces_its_steps_and_follows_the_flow_to_noise() -> None:
    models = LatentModels(load_pipeline(tiny_sd()))
    clean = models.encode(pictures(1))
    table = ancestral_steps(models.pipeline.scheduler, 6)
    reversal = invert_reversibly(models, table, clean, "a red boat")
    assert models.denoiser_rows == 2 * 6 * 8
    back = swap_reversibly(models, reversal, models.text(["a red boat", "a blue boat"]))
    assert torch.allclose(back[:1], clean, rtol=0, atol=1e-4) and not torch.allclose(back[1:], clean, atol=1e-3)


class Gaussian(LatentModels):
    """Knows the noise in data that is normal with a variance, for which the probability flow is known."""

    channels = 1

    def __init__(self, scheduler: DDPMScheduler, variance: float) -> None:
        self.alphas, self.variance = scheduler.alphas_cumprod, variance

    def text(self, captions: list[str]) -> Conditioning:
        """Return nothing to read."""
        return Conditioning(torch.zeros(len(captions), 1, 1), None)

    def predict(self, sample: torch.Tensor, timesteps: list[int], text: Conditioning) -> torch.Tensor:
        """Return the noise."""
        alpha = self.alphas[int(timesteps[0])]
        return sample * (1 - alpha).sqrt() / (alpha * self.variance + 1 - alpha)


def test_a_reversible_solver_follows_the_probability_flow() -> None:
    scheduler, clean = DDPMScheduler(1000), torch.tensor([0.5, -2.0]).view(1, 1, 1, 2)
    models, errors = Gaussian(scheduler, variance=0.25), []
    for steps in (50, 200, 800):
        table = ancestral_steps(scheduler, steps)
        states = invert_reversibly(models, table, clean, "").states
        # y(s) = y(0) sqrt((variance + s^2) / variance), as s = sigma / alpha goes from 0 to that of the noisiest level.
        s2 = 1 / table.signals[0] ** 2 - 1
        wanted = clean.double() * ((0.25 + s2) / 0.25) ** 0.5
        errors.append([float(((state - wanted) / wanted).abs().max()) for state in states])
        assert torch.allclose(swap_reversibly(models, Reversal(table, states), models.text([""])), clean, atol=1e-5)
    assert max(errors[2]) < 0.02 and max(errors[2]) < 0.5 * max(errors[1]) < 0.25 * max(errors[0])


def test_every_editor_changes_something_and_inpainting_keeps_the_rest() -> None:
    models = LatentModels(load_pipeline(tiny_sd()))
    clean = models.encode(pictures(1))
    table = ancestral_steps(models.pipeline.scheduler, 4)
    inversion = invert(models, table, clean, "a red boat", seed=3)
    target = models.text(["a blue boat", "a red fish"])
    for strength in (1.0, 2.0):
        edited = swap(models, inversion, target, strength)
        assert edited.shape == (2, *clean.shape[1:]) and not torch.allclose(edited[0], edited[1])
    mask = torch.zeros(2, 1, IMAGE_SIZE, IMAGE_SIZE)
    mask[:, :, :6, :6] = 1
    inside = latent_mask(mask, (8, 8), grow=0)
    edited = inpaint(models, inversion, target, inside, seed=1)
    assert torch.equal(edited * (1 - inside), (clean * (1 - inside)).expand_as(edited))
    assert not torch.allclose(edited * inside, clean * inside)
    plain = invert(models, table, clean, "", seed=3)
    guided = guide(models, plain, models.text(["blue", "fish"]), models.text(["red", "boat"]))
    assert not torch.allclose(guided, clean.expand_as(guided), atol=1e-3)


@pytest.mark.parametrize("guidance", [(), (3.0, 2.0, 1.0, 7.5)])
def test_guidance_of_scale_0_and_a_swap_of_strength_0_give_the_picture_back(guidance: tuple[float, ...]) -> None:
    models = LatentModels(load_pipeline(tiny_sd2()))
    clean = models.encode(pictures(1))
    table = ancestral_steps(models.pipeline.scheduler, 4)
    inversion = invert(models, table, clean, "a boat", guidance=guidance)
    target, source = models.text(["snow"]), models.text(["a boat"])
    still = [guide(models, inversion, target, scale=0.0), guide(models, inversion, source, source)]
    for latents in (*still, swap(models, inversion, target, strength=0.0)):
        assert torch.allclose(latents, clean, rtol=0, atol=1e-4)


def test_guidance_by_words_adds_the_same_to_a_guided_inversion() -> None:
    models = LatentModels(load_pipeline(tiny_sd()))
    clean, table = models.encode(pictures(1)), ancestral_steps(models.pipeline.scheduler, 1)
    target, steps = models.text(["a fish"]), []
    for guidance in ((), (4.0,)):
        inversion = invert(models, table, clean, "a boat", guidance=guidance)
        steps.append(guide(models, inversion, target, scale=2.0) - clean)
    sample, at = inversion.samples[:1], [table.steps[0].timestep]
    own, added = (models.predict(sample, at, models.text([caption])) for caption in ("a boat", "a fish"))
    whole = table.steps[0].output * 2 * (added - own)
    assert torch.allclose(steps[0], steps[1], rtol=0, atol=1e-4) and float(steps[0].abs().max()) > 1e-3
    assert torch.allclose(guide(models, inversion, target, scale=2.0, quantile=0.0) - clean, whole, rtol=0, atol=1e-4)


def test_pasting_keeps_the_users_pixels() -> None:
    original, edited = pictures(1), 1 - pictures(1)
    mask = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE)
    mask[..., :4] = 1
    found = pasted(original, edited, mask, grow=2)
    assert torch.equal(found[..., 8:], original[..., 8:]) and torch.equal(found[..., :4], edited[..., :4])
    assert torch.equal(pasted(original, edited, torch.ones_like(mask)), edited)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("size", [(64, 64), (100, 40), (7, 13)])
def test_pictures_of_any_mode_and_size_are_read(mode: str, size: tuple[int, int]) -> None:
    image = Image.new(mode, size, 0 if mode in ("L", "P", "1", "I;16") else None)
    pixels = as_pixels(image, (64, 32))
    assert pixels.shape == (1, 3, 64, 32) and pixels.min() >= 0 and pixels.max() <= 1
    assert as_image(pixels[0]).size == (32, 64)


def test_transparent_places_are_white_and_an_animation_gives_its_first_picture(tmp_path) -> None:
    assert as_pixels(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), (8, 8)).min() == 1
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    with Image.open(tmp_path / "two.gif") as image:
        assert as_pixels(image, (8, 8))[0, 0].min() > 0.9


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("fish.png", "images: wanted PIL images"),
        ([], "at least one picture"),
        (["fish.png"], "images: wanted PIL images"),
        (torch.zeros(1, 1, 8, 8), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating point"),
        (torch.full((1, 3, 8, 8), 2.0), r"in \[0, 1\], got 2 to 2"),
    ],
)
def test_what_is_no_picture_is_named(images: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        as_pixels(images, (8, 8))


def test_captions_are_one_for_each_picture() -> None:
    with pytest.raises(ValueError, match="captions: wanted 2"):
        dx.editing.reconstruct(tiny_sd(), pictures(2), steps=1, captions=["a boat"])
    with pytest.raises(TypeError, match="captions: wanted a sequence"):
        dx.editing.reconstruct(tiny_sd(), pictures(1), steps=1, captions="a boat")
