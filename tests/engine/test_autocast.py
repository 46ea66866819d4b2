"""``torch.autocast`` around calls: every backend and single calls compute in the dtypes of the models nevertheless."""

import copy

import pytest
import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.loading import load_pipeline
from tests.engine.fast.cases import cotangent_of, inputs_of, parts
from tests.engine.plain import make_scheduler
from tests.tiny import tiny_sd

F32, BF16 = torch.float32, torch.bfloat16
WAYS = ["fast", "own modules", "reference", "checkpointed"]


def sampler_by(way: str, model: str) -> DifferentiableSampler:
    models = parts(model, F32)
    if way == "own modules":
        models = copy.deepcopy(models)
        for part in (models.unet.mid_block, models.vae.decoder):
            part.register_forward_hook(lambda part, given, output: None)
    return DifferentiableSampler(
        unet=models.unet,
        vae=models.vae,
        scheduler=make_scheduler("ddim"),
        num_inference_steps=2,
        guidance_scale=3.0,
        backend="fast" if way in WAYS[:2] else "reference",
        gradient="checkpointed" if way == "checkpointed" else "full",
    )


def inside(enabled: bool) -> torch.autocast:
    return torch.autocast("cpu", BF16, enabled=enabled)


@pytest.mark.parametrize("model", ["sd15", "sdxl"])
@pytest.mark.parametrize("way", WAYS)
def test_pictures_and_gradients_of_every_backend_are_those_without_it(way: str, model: str) -> None:
    sampler, given, found = sampler_by(way, model), inputs_of(model, dtype=F32), list[list[Tensor]]()
    for enabled in (False, True):
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        with inside(enabled):
            images = sampler(**leaves)
        found.append([images, *torch.autograd.grad(images, list(leaves.values()), cotangent_of(images))])
        assert images.dtype == F32
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("way", ["fast", "own modules"])
def test_a_backward_of_the_fast_backend_inside_of_it_is_that_outside(way: str) -> None:
    sampler, given, found = sampler_by(way, "sd15"), inputs_of("sd15", dtype=F32), []
    for enabled in (False, True):
        prompt = given["prompt_embeds"].clone().requires_grad_()
        images = sampler(**given | {"prompt_embeds": prompt})
        with inside(enabled):
            found.append(torch.autograd.grad(images, prompt, cotangent_of(images))[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("model", ["sd15", "sdxl"])
@pytest.mark.parametrize("way", WAYS[:3])
def test_inputs_of_another_dtype_are_converted_inside_of_it_and_refused_outside(way: str, model: str) -> None:
    sampler, half = (
        sampler_by(way, model),
        {name: value.to(BF16) for name, value in inputs_of(model, dtype=F32).items()},
    )
    wanted = sampler(**{name: value.float() for name, value in half.items()})
    leaf = half["prompt_embeds"].clone().requires_grad_()
    with inside(True):
        images = sampler(**half | {"prompt_embeds": leaf})
    assert torch.equal(images, wanted) and images.dtype == F32
    (grad,) = torch.autograd.grad(images.square().mean(), leaf)
    assert grad.dtype == BF16 and grad.norm() > 0
    with pytest.raises(ValueError, match=r"prompt_embeds: wanted dtype torch\.float32"):
        sampler(**half)


@pytest.mark.parametrize("model", ["sd15", "sdxl"])
@pytest.mark.parametrize("way", WAYS[:3])
def test_single_calls_are_those_without_it(way: str, model: str) -> None:
    calls, given = sampler_by(way, model).single_calls(), inputs_of(model, dtype=F32)
    rows, embeds = given["latents"].to(BF16), given["prompt_embeds"].to(BF16)
    added = None
    if model == "sdxl":
        added = {"text_embeds": given["pooled_prompt_embeds"].to(BF16), "time_ids": torch.ones(1, 6, dtype=torch.long)}
    wide = added and {name: value.float() for name, value in added.items()}
    wanted = calls.denoise(rows.float(), 5, embeds.float(), wide), calls.decode(rows.float())
    with inside(True):
        got = calls.denoise(rows, 5, embeds, added), calls.decode(rows.float())
    assert all(map(torch.equal, got, wanted)) and {each.dtype for each in got} == {F32}
    with pytest.raises(ValueError, match=r"rows: wanted dtype torch\.float32"):
        calls.denoise(rows, 5, embeds, added)


@pytest.mark.parametrize("own", [False, True])
def test_sizes_of_a_single_call_are_not_rounded_inside_of_it(own: bool) -> None:
    models, given = copy.deepcopy(parts("sdxl", F32)), inputs_of("sdxl", dtype=BF16)
    if own:
        models.unet.mid_block.register_forward_hook(lambda part, given, output: None)
    calls = SingleCalls.of(models.unet.to(BF16), models.vae.to(BF16), closely=False)
    sizes = torch.tensor([[1023.0, 1019, 3, 5, 1021, 1011]])  # bfloat16 has none but the small ones
    added, found = {"text_embeds": given["pooled_prompt_embeds"], "time_ids": sizes}, list[Tensor]()
    for enabled in (False, True):
        with inside(enabled), torch.no_grad():
            found.append(calls.denoise(given["latents"], 5, given["prompt_embeds"], added))
    assert torch.equal(*found)


def test_an_encoder_gives_the_latents_and_texts_without_it() -> None:
    pipeline, pixels = load_pipeline(tiny_sd()), torch.rand(2, 3, 16, 16)
    models, others = LatentModels(pipeline), LatentModels(pipeline)
    wanted, text = models.encode(pixels), models.text(["a boat", None]).prompt_embeds
    with inside(True):
        assert torch.equal(models.encode(pixels), wanted)
        assert torch.equal(others.text(["a boat", None]).prompt_embeds, text)
    assert torch.equal(others.text(["a boat", None]).prompt_embeds, text)  # what was kept inside
