"""What surrounds the sampler's mathematics: rows that run, no trace in the modules, noise, records."""

import copy
import random
from types import SimpleNamespace

import numpy
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from diffexplain_fast.engine import uncompiled
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.ops import _impl
from tests.engine.plain import SCHEDULERS, gradients, make_scheduler, relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import seeded, tiny_sd, tiny_sd2, tiny_sdxl, tiny_unet, tiny_vae


@pytest.fixture
def pipe():
    return tiny_sd()


@pytest.mark.parametrize(("guidance", "rows"), [(1.0, [3, 3]), (1, [3, 3]), (3.0, [6, 6])])
@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
def test_without_guidance_only_conditional_rows_run(pipe, guidance, rows, gradient):
    calls = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, given: calls.append(given))
    images = sampler_of(pipe, guidance_scale=guidance, gradient=gradient)(embeds(3), embeds(seed=1))
    handle.remove()
    assert [len(sample) for sample, _ in calls] == rows and images.shape == (3, 3, 16, 16)
    assert all(isinstance(time, torch.Tensor) and time.dtype == torch.int64 for _, time in calls)


def test_negative_prompt_is_broadcast(pipe):
    sampler, negative = sampler_of(pipe), embeds(seed=1)
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, both = (sampler(embeds(2), each, latents) for each in (negative, negative.repeat(2, 1, 1)))
    assert torch.equal(one, both)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_images_are_the_diffusers_pipelines_own(pipe, kind):
    """Same generator, same noise, same picture: diffusers only clamps it and shows it as 0 to 1."""
    pipe.scheduler = make_scheduler(kind)
    pipe.set_progress_bar_config(disable=True)
    prompt, negative = embeds(2), embeds(2, seed=1)
    with torch.no_grad():
        got = DifferentiableSampler.from_pipe(pipe, num_inference_steps=3, guidance_scale=3.0)(
            prompt, negative, generator=torch.Generator().manual_seed(4)
        )
    wanted = pipe(
        prompt_embeds=prompt,
        negative_prompt_embeds=negative,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(4),
        output_type="pt",
    ).images
    assert relative(got.clamp(0, 1), wanted) <= 1e-5


@pytest.mark.parametrize("make", [tiny_sd, tiny_sd2, tiny_sdxl])
def test_our_pipelines_sample_from_text(make):
    pipeline = load_pipeline(make())
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=2, guidance_scale=2.0)
    soft = pipeline.token_embeddings("boat").detach().requires_grad_()
    positive, negative = pipeline.encode_soft(soft, prefix="a"), pipeline.encode_text([""])
    images = sampler(
        positive.prompt_embeds,
        negative.prompt_embeds,
        generator=torch.Generator().manual_seed(0),
        pooled_prompt_embeds=positive.pooled,
        negative_pooled_prompt_embeds=negative.pooled,
        **pipeline.extras(positive, 1),
    )
    (gradient,) = torch.autograd.grad(images.sum(), soft)
    assert images.shape == (1, 3, 16, 16) and gradient.isfinite().all() and gradient.norm() > 0


def test_the_image_size_follows_the_latents(pipe):
    latents = torch.randn((1, 4, 6, 10), generator=torch.Generator().manual_seed(0))
    assert sampler_of(pipe)(embeds(), embeds(seed=1), latents).shape == (1, 3, 12, 20)


def test_images_are_not_clamped(pipe):
    latents = 20 * torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = sampler_of(pipe, guidance_scale=1.0)(embeds(), latents=latents)
    assert images.min() < 0 or images.max() > 1


@pytest.mark.parametrize("kind", ["ddim", "euler"])
def test_half_precision_keeps_the_sample_in_single(pipe, kind):
    prompt, negative = embeds().requires_grad_(), embeds(seed=1)
    truth = sampler_of(pipe, kind)(prompt, negative, generator=torch.Generator().manual_seed(0))
    half = SimpleNamespace(unet=copy.deepcopy(pipe.unet).bfloat16(), vae=pipe.vae)
    small = prompt.detach().bfloat16().requires_grad_()
    got = sampler_of(half, kind)(small, negative.bfloat16(), generator=torch.Generator().manual_seed(0))
    assert got.dtype == torch.float32 and relative(got, truth) < 0.02
    (gradient,) = torch.autograd.grad(got.sum(), small)
    assert gradient.dtype == torch.bfloat16 and gradient.isfinite().all()


def test_noise_follows_the_generator_and_nothing_global(pipe):
    sampler = sampler_of(pipe, "lcm")
    first, again, other = (
        sampler(embeds(), embeds(seed=1), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    sampler(embeds(), embeds(seed=1), generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), states[0])
    sampler(embeds(), embeds(seed=1))  # draws from torch's global generator, and from no other
    assert not torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == states[1:]


def traces(pipe):
    """Everything of the user's modules that a run could leave changed."""
    modules = [module for part in (pipe.unet, pipe.vae) for module in part.modules()]
    weights = [weight for part in (pipe.unet, pipe.vae) for weight in part.parameters()]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        [(id(module), module.training, [list(getattr(module, hook)) for hook in hooks]) for module in modules],
        [(id(weight), weight.requires_grad, weight.grad, weight._version) for weight in weights],
        {name: id(processor) for name, processor in pipe.unet.attn_processors.items()},
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


def unusual(pipe):
    """The pipe with mixed modes, flags, a hook and a processor of the user's own."""
    pipe.unet.train()
    pipe.unet.mid_block.eval()
    pipe.unet.conv_in.requires_grad_(False)
    pipe.vae.decoder.train()
    pipe.unet.conv_out.register_forward_hook(lambda *_: None)
    pipe.unet.set_attn_processor(AttnProcessor())
    return pipe


@pytest.mark.parametrize("gradient", ["full", "checkpointed", "last:1", "detached", "shortcut:2"])
def test_a_run_leaves_no_trace(pipe, gradient):
    before = traces(unusual(pipe))
    prompt = embeds().requires_grad_()
    images = sampler_of(pipe, gradient=gradient)(prompt, embeds(seed=1), generator=torch.Generator())
    assert traces(pipe) == before
    (gradient,) = torch.autograd.grad(images.sum(), prompt)  # backward() would fill .grad of weights that are trained
    assert gradient.norm() > 0
    assert traces(pipe) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize(("part", "call"), [("unet", 2), ("unet", 3), ("vae", 1), ("vae", 2)])
def test_a_failure_leaves_no_trace(pipe, error, part, call):
    """Calls 1 and 2 of the UNet and 1 of the VAE are the forward's, later ones the recompute's during backward."""
    unusual(pipe)
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == call:
            raise error("stop")

    module = pipe.unet.conv_in if part == "unet" else pipe.vae.decoder
    module.register_forward_pre_hook(fail)
    before = traces(pipe)
    with pytest.raises(error, match="stop"):
        sampler = sampler_of(pipe, gradient="checkpointed")
        sampler(embeds().requires_grad_(), embeds(seed=1), generator=torch.Generator()).sum().backward()
    assert traces(pipe) == before


def test_training_mode_changes_no_image():
    """Dropout of the user's module is without effect; a trained UNet runs through its own modules, and rounds."""
    unet = seeded(lambda: tiny_unet(16, dropout=0.5))
    pipe, prompt = SimpleNamespace(unet=unet, vae=tiny_vae()), embeds().requires_grad_()
    results = []
    for training, trained in ((True, False), (False, False), (True, True)):
        unet.train(training)
        unet.requires_grad_(trained)
        images = sampler_of(pipe, gradient="checkpointed")(prompt, embeds(seed=1), generator=torch.Generator())
        results.append((images, *gradients(images, torch.ones_like(images), prompt)))
    frozen, evaluated, trained = results
    assert all(torch.equal(*both) for both in zip(frozen, evaluated, strict=True))
    assert all(relative(*both) <= 1e-5 for both in zip(trained, evaluated, strict=True))


def test_no_graph_without_inputs_that_ask_for_one(pipe):
    assert not sampler_of(pipe)(embeds(), embeds(seed=1)).requires_grad
    with torch.no_grad():
        assert not sampler_of(pipe, gradient="checkpointed")(embeds().requires_grad_(), embeds(seed=1)).requires_grad


def test_the_record_names_backend_gradient_and_scheduler(pipe):
    assert sampler_of(pipe, "euler", gradient="last:1", backend="reference").record() == {
        "backend": "reference",
        "reason": "asked for",
        "gradient": "last:1",
        "scheduler": "EulerDiscreteScheduler",
        "prediction_type": "epsilon",
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "implementations": "",
        "cuda_graphs": "",
        "retried_calls": 0,
    }
    record = sampler_of(pipe).record()
    assert record["backend"] == "fast" and record["reason"] == "auto: the models are known to the fast engine"
    assert "group_norm_silu" in str(record["implementations"])


def test_without_compiled_kernels_auto_takes_the_reference_for_small_models_on_a_cpu(pipe, monkeypatch):
    monkeypatch.setattr(_impl, "CPP_MISSING", "_C_cpu was not built")
    record = sampler_of(pipe).record()
    assert record["backend"] == "reference" and "_C_cpu was not built" in str(record["reason"])
    assert sampler_of(pipe, memory="1GiB").record()["backend"] == "fast"
    assert sampler_of(pipe, backend="fast").record()["backend"] == "fast"
    monkeypatch.setattr(uncompiled, "_SMALL", 1000)
    assert sampler_of(pipe).record()["backend"] == "fast"
