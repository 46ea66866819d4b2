"""What a call may say: steps, timesteps, noise levels, rescaled guidance, sizes; and what is refused by name."""

import copy
from types import SimpleNamespace

import pytest
import torch

from diffexplain_fast.engine.accelerated import accelerate
from diffexplain_fast.engine.graphs.policy import Graphs
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.schedules import Schedule
from tests.engine.graphs.test_recording import Rerun
from tests.engine.plain import Plain, gradients, in_float64, make_scheduler, relative
from tests.engine.samplers import embeds, own_pictures, sampler_of, seed
from tests.tiny import tiny_sd, tiny_sdxl


@pytest.fixture
def pipe():
    made = tiny_sd()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("ddim", {"num_inference_steps": 3}),
        ("ddim", {"num_inference_steps": 3, "eta": 0.0}),
        ("ddim", {"num_inference_steps": 2, "guidance_rescale": 0.7}),
        ("ddim", {"guidance_scale": 6.0}),
        ("ddim", {"guidance_scale": 1.0}),
        ("dpm", {"guidance_scale": 1.0, "num_inference_steps": 3}),
        ("euler", {"timesteps": [900, 500, 100, 20]}),
        ("euler", {"sigmas": [11.0, 4.0, 1.0, 0.0]}),
        ("euler", {"sigmas": [11.0, 4.0, 1.0], "guidance_rescale": 1.0}),
        ("dpm", {"timesteps": [950, 600, 300, 40]}),
        ("lcm", {"timesteps": [959, 499, 99]}),
    ],
)
def test_a_call_that_says_how_draws_the_pipelines_own_pictures(pipe, kind, asked, backend):
    pipe.scheduler = make_scheduler(kind)
    prompt, negative = embeds(2), embeds(2, seed=1)
    sampler = accelerate(pipe, backend=backend, num_inference_steps=5, guidance_scale=3.0)
    with torch.no_grad():
        got = sampler(prompt, negative, generator=seed(), **asked)
        made = {key: value for key, value in asked.items() if key != "eta"}
        made = {"num_inference_steps": 5, "guidance_scale": 3.0, **made}
        made.pop("num_inference_steps" if set(made) & {"timesteps", "sigmas"} else "", None)
        once = accelerate(pipe, backend=backend, **made)(prompt, negative, generator=seed())
    assert torch.equal(got, once)
    assert sampler.num_inference_steps == 5 and sampler.guidance_scale == 3.0
    usual = {} if set(asked) & {"timesteps", "sigmas"} else {"num_inference_steps": 5}
    assert relative(got.clamp(0, 1), own_pictures(pipe, prompt, negative, **usual | asked)) <= 1e-5


@pytest.mark.parametrize(
    ("kind", "options", "steps"), [("euler", {"sigmas": [9.0, 2.0, 0.0]}, 2), ("dpm", {"timesteps": [800, 400, 3]}, 3)]
)
def test_timesteps_and_sigmas_of_a_sampler_are_counted_and_recorded(pipe, kind, options, steps):
    sampler = sampler_of(pipe, kind, **options)
    record = sampler.record()
    assert record["num_inference_steps"] == steps == len(sampler.schedule.steps)
    assert record[next(iter(options))] == " ".join(f"{value:g}" for value in next(iter(options.values())))
    assert (
        "guidance_rescale" not in record and sampler_of(pipe, guidance_rescale=0.5).record()["guidance_rescale"] == 0.5
    )


def rescaled_plain(pipe, given, steps, scale, strength):
    """Diffusers' own loop with its own rescaling, and plain autograd."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    scheduler, sample = in_float64(pipe.scheduler, steps), given.latents
    for t in scheduler.timesteps:
        rows, texts = torch.cat([sample] * 2), torch.cat([given.negative.expand_as(given.prompt), given.prompt])
        unconditional, conditional = pipe.unet(rows, t, encoder_hidden_states=texts).sample.chunk(2)
        output = unconditional + scale * (conditional - unconditional)
        output = rescale_noise_cfg(output, conditional, strength)
        sample = scheduler.step(output, t.item(), sample, return_dict=False)[0]
    return pipe.vae.decode(sample / pipe.vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_rescaled_guidance_has_the_exact_gradient(sd, inputs, backend, gradient, strength):
    given = inputs(2)
    truth = rescaled_plain(sd, given, 3, 4.0, strength)
    wanted = truth.detach(), *gradients(truth, given.cotangent, given.prompt, given.latents)
    sampler = DifferentiableSampler.from_pipe(
        sd, backend=backend, gradient=gradient, num_inference_steps=3, guidance_scale=4.0, guidance_rescale=strength
    )
    images = sampler(given.prompt, given.negative, given.latents)
    got = images.detach(), *gradients(images, given.cotangent, given.prompt, given.latents)
    assert all(relative(*pair) <= 1e-10 for pair in zip(got, wanted, strict=True))
    plain = sampler(given.prompt, given.negative, given.latents, guidance_rescale=0.0)
    assert relative(plain, truth) > 1e-3


def test_without_guidance_nothing_is_rescaled(pipe):
    sampler, latents = sampler_of(pipe, guidance_scale=1.0), torch.randn(1, 4, 8, 8, generator=seed())
    with torch.no_grad():
        one, two = (sampler(embeds(), latents=latents, guidance_rescale=strength) for strength in (0.0, 0.7))
    assert torch.equal(one, two)


def test_negative_time_ids_are_used_as_in_diffusers_xl_pipeline():
    pipe = tiny_sdxl()
    pipe.scheduler = make_scheduler("ddim")
    pipe.set_progress_bar_config(disable=True)
    prompt, negative = embeds(width=40), embeds(width=40, seed=1)
    pooled = dict(zip(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), torch.randn(2, 1, 24), strict=True))
    sizes = {"negative_original_size": (64, 8), "negative_target_size": (8, 128), "original_size": (32, 64)}
    wanted = own_pictures(pipe, prompt, negative, num_inference_steps=2, **pooled, **sizes)
    given = {
        "time_ids": torch.tensor([[32.0, 64, 0, 0, 16, 16]]),
        "negative_time_ids": torch.tensor([[64.0, 8, 0, 0, 8, 128]]),
    }
    for backend in ("fast", "reference"):
        sampler = accelerate(pipe, backend=backend, num_inference_steps=2, guidance_scale=3.0)
        with torch.no_grad():
            got = sampler(prompt, negative, generator=seed(), **pooled, **given)
            usual = sampler(prompt, negative, generator=seed(), **pooled, time_ids=given["time_ids"])
        assert relative(got.clamp(0, 1), wanted) <= 1e-5 < relative(usual.clamp(0, 1), wanted)


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_the_gradient_reaches_the_sizes_of_the_unconditional_rows(sdxl, xl_inputs, backend):
    given, scheduler = xl_inputs(), make_scheduler("ddim")
    sizes = torch.full((1, 6), 16.0, dtype=torch.float64).requires_grad_()
    pooled = torch.randn(2, 1, 24, dtype=torch.float64)
    usual = torch.tensor([[16.0, 16, 0, 0, 16, 16]], dtype=torch.float64)
    rows = [{"text_embeds": pooled[0], "time_ids": usual}, {"text_embeds": pooled[1], "time_ids": sizes}]
    truth = Plain(sdxl.unet, sdxl.vae, scheduler, 2, 3.0)(given.prompt, given.negative, given.latents, added=rows)
    sampler = DifferentiableSampler(
        unet=sdxl.unet,
        vae=sdxl.vae,
        scheduler=scheduler,
        num_inference_steps=2,
        guidance_scale=3.0,
        backend=backend,
    )
    images = sampler(
        given.prompt,
        given.negative,
        given.latents,
        pooled_prompt_embeds=pooled[0],
        negative_pooled_prompt_embeds=pooled[1],
        negative_time_ids=sizes,
    )
    wanted, got = (gradients(each, given.cotangent, sizes, given.prompt) for each in (truth, images))
    assert relative(images, truth) <= 1e-10 and wanted[0].norm() > 0
    assert all(relative(*pair) <= 1e-10 for pair in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    ("kind", "asked", "error", "message"),
    [
        ("ddim", {"eta": 0.5}, ValueError, "eta: wanted 0, DDIM without fresh noise, got 0.5"),
        ("ddim", {"eta": None}, TypeError, "eta: wanted the number 0, got NoneType"),
        ("ddim", {"guidance_scale": 0.5}, ValueError, "guidance_scale: wanted .*1.*got 0.5"),
        ("ddim", {"guidance_rescale": 1.5}, ValueError, "guidance_rescale: wanted a number from 0.*got 1.5"),
        ("ddim", {"guidance_rescale": float("nan")}, ValueError, "guidance_rescale: wanted .*got nan"),
        ("ddim", {"guidance_rescale": "1"}, TypeError, "guidance_rescale: wanted a number, got str"),
        ("ddim", {"num_inference_steps": 0}, ValueError, "num_inference_steps: wanted 1 to 1000.*got 0"),
        ("ddim", {"num_inference_steps": True}, TypeError, "num_inference_steps: wanted a whole number, got bool"),
        ("ddim", {"timesteps": [3]}, ValueError, "timesteps: wanted None for DDIMScheduler.*got 1 of them"),
        ("lcm", {"sigmas": [3.0, 0.0]}, ValueError, "sigmas: wanted None for LCMScheduler.*takes no sigmas"),
        ("lcm", {"timesteps": [3, 900]}, ValueError, "timesteps: wanted values that LCMScheduler.set_timesteps takes"),
        ("dpm", {"timesteps": [30.5, 2]}, ValueError, "timesteps: wanted whole numbers for DPMSolverMultistep"),
        ("dpm", {"timesteps": [1000, 2]}, ValueError, "timesteps: wanted numbers from 0 to 999"),
        ("dpm", {"timesteps": [500, 300, 300, 10]}, ValueError, "noise levels that differ .*steps 2 and 3 of 4"),
        ("euler", {"timesteps": []}, ValueError, "timesteps: wanted at least one finite number"),
        ("euler", {"timesteps": 3}, TypeError, "timesteps: wanted a sequence of numbers, got int"),
        ("euler", {"timesteps": ["3"]}, TypeError, "timesteps: wanted a sequence of numbers"),
        ("euler", {"sigmas": [float("inf"), 1.0]}, ValueError, "sigmas: wanted at least one finite number"),
        ("euler", {"sigmas": [1.0]}, ValueError, "sigmas: wanted a noise level above 0 for each step"),
        ("euler", {"sigmas": [1.0, 0.0, 0.0]}, ValueError, "sigmas: wanted a noise level above 0 for each step"),
        (
            "euler",
            {"sigmas": [1.0, 0.0], "timesteps": [3]},
            ValueError,
            "timesteps: wanted None where sigmas are passed",
        ),
        ("ddim", {"generator": [seed(), 3]}, TypeError, "generator: wanted a torch.Generator.*got int"),
        ("ddim", {"generator": [seed()]}, ValueError, "generator: wanted one generator, or one for each of 2 images"),
        ("ddim", {"generator": []}, ValueError, "one for each of 2 images, got 0 of them"),
    ],
)
def test_a_bad_option_of_a_call_is_refused_by_name(pipe, kind, asked, error, message):
    sampler = sampler_of(pipe, kind, num_inference_steps=2)
    with pytest.raises(error, match=message):
        sampler(embeds(2), embeds(seed=1), **asked)
    made = {key: value for key, value in asked.items() if key != "generator"}
    if made:
        with pytest.raises(error, match=message):
            sampler_of(pipe, kind, **made)


@pytest.mark.parametrize("spacing", ["linspace", "leading"])
def test_dpm_solver_with_as_many_steps_as_the_training_is_refused(spacing):
    """Two steps would start from one noise level, between which its own extrapolation divides by zero."""
    scheduler = make_scheduler("dpm", num_train_timesteps=20, timestep_spacing=spacing)
    with pytest.raises(ValueError, match=r"num_inference_steps: wanted noise levels that differ .*got the same level"):
        Schedule.from_scheduler(scheduler, 20)
    assert len(Schedule.from_scheduler(scheduler, 10).steps) == 10


def test_timesteps_may_be_a_tensor_or_an_array(pipe):
    values = torch.tensor([900, 500, 100])
    both = [sampler_of(pipe, "dpm", timesteps=given).schedule for given in (values, values.numpy(), values.tolist())]
    assert both[0] == both[1] == both[2]


def test_a_unet_that_does_not_say_its_size_needs_latents(pipe):
    unet = copy.deepcopy(pipe.unet)
    unet.register_to_config(sample_size=None)
    sampler = sampler_of(SimpleNamespace(unet=unet, vae=pipe.vae), guidance_scale=1.0)
    with pytest.raises(
        ValueError, match=r"latents: wanted start noise \[1, 4, h, w\], because unet.config.sample_size is"
    ):
        sampler(embeds())
    with torch.no_grad():
        assert sampler(embeds(), latents=torch.zeros(1, 4, 6, 6)).shape == (1, 3, 12, 12)


def test_pooled_text_of_another_width_is_refused():
    pipe = tiny_sdxl()
    sampler = sampler_of(pipe, "euler", guidance_scale=1.0)
    with pytest.raises(ValueError, match=r"pooled_prompt_embeds: wanted shape \[1, 24\], as .*, got \[1, 20\]"):
        sampler(embeds(width=40), pooled_prompt_embeds=torch.zeros(1, 20), generator=seed())


def test_a_recording_belongs_to_one_guidance_and_one_number_of_steps(sd, inputs):
    """Calls that differ in either are recorded anew, and each replay is exact."""
    given, options = inputs(), {"num_inference_steps": 3, "guidance_scale": 4.0, "memory": None}
    sampler, eager = (DifferentiableSampler.from_pipe(sd, backend="fast", **options) for _ in range(2))
    sampler._engine._graphs = Graphs("auto", Rerun)
    for asked in (
        {},
        {"guidance_scale": 1.0},
        {"guidance_scale": 6.0},
        {"guidance_rescale": 0.5},
        {"guidance_rescale": 0.9},
        {"num_inference_steps": 2},
    ):
        for _ in range(3):
            found = []
            for each in (sampler, eager):
                images = each(given.prompt, given.negative, given.latents, **asked)
                found.append((images.detach(), *gradients(images, given.cotangent, given.prompt, given.latents)))
            assert all(relative(*pair) <= 1e-12 for pair in zip(*found, strict=True))
        assert sampler.record()["cuda_graphs"].startswith("replayed"), sampler.record()["cuda_graphs"]
