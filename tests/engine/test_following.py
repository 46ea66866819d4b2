"""What a sampler follows: the generators of a call, torch's own without any, and the parts of its pipeline."""

import warnings
from functools import wraps

import pytest
import torch

from diffexplain_fast.engine.accelerated import accelerate
from tests.engine.plain import make_scheduler, relative
from tests.engine.samplers import embeds, own_pictures, sampler_of, seed
from tests.tiny import seeded, tiny_sd, tiny_sd2, tiny_unet, tiny_vae


@pytest.fixture
def pipe():
    made = tiny_sd()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("kind", ["ddim", "lcm"])
def test_a_list_of_generators_draws_each_image_for_itself(pipe, kind):
    pipe.scheduler = make_scheduler(kind)
    prompt, negative = embeds(2), embeds(2, seed=1)
    sampler = accelerate(pipe, num_inference_steps=3, guidance_scale=3.0)
    with torch.no_grad():
        both = sampler(prompt, negative, generator=[seed(1), seed(2)])
        one = sampler(prompt[1:], negative[1:], generator=[seed(2)])
    wanted = own_pictures(pipe, prompt, negative, num_inference_steps=3, generator=[seed(1), seed(2)])
    assert relative(both.clamp(0, 1), wanted) <= 1e-5
    assert relative(both[1:], one) <= 1e-5


@pytest.mark.parametrize("kind", ["ddim", "lcm"])
def test_without_a_generator_each_call_draws_anew_as_in_diffusers(pipe, kind):
    pipe.scheduler = make_scheduler(kind)
    prompt, negative = embeds(), embeds(seed=1)
    sampler = accelerate(pipe, num_inference_steps=2, guidance_scale=3.0)
    torch.manual_seed(3)
    with torch.no_grad():
        first = sampler(prompt, negative)
        with pytest.warns(FutureWarning, match=r"other noise, as in diffusers.*pass generator=") as said:
            second = sampler(prompt, negative)
        third = sampler(prompt, negative)  # said once
    torch.manual_seed(3)
    assert [each.filename for each in said] == [__file__]
    for got in (first, second, third):
        wanted = own_pictures(pipe, prompt, negative, num_inference_steps=2, generator=None)
        assert relative(got.clamp(0, 1), wanted) <= 1e-5
    assert not torch.allclose(first, second, atol=1e-2)


def test_given_latents_draw_nothing_and_say_nothing(pipe):
    state, latents = torch.get_rng_state(), torch.randn(1, 4, 8, 8, generator=seed())
    sampler = sampler_of(pipe)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        one, two = (sampler(embeds(), embeds(seed=1), latents) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state)


def another_unet():
    return seeded(lambda: tiny_unet(16), 9).eval()


@pytest.mark.parametrize("backend", ["fast", "reference", "auto"])
@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("unet", another_unet),
        ("vae", lambda: seeded(tiny_vae, 9).eval()),
        ("scheduler", lambda: make_scheduler("euler")),
        ("scheduler", lambda: make_scheduler("ddim", "v_prediction")),
    ],
)
def test_a_part_that_is_replaced_in_the_pipeline_is_followed(pipe, backend, part, other):
    options = {"num_inference_steps": 2, "guidance_scale": 3.0}
    sampler, latents = accelerate(pipe, backend=backend, **options), torch.randn(1, 4, 8, 8, generator=seed())
    prompt, negative = embeds().requires_grad_(), embeds(seed=1)
    before = sampler(prompt, negative, latents)
    setattr(pipe, part, other())
    got = sampler(prompt, negative, latents)
    wanted = accelerate(pipe, backend=backend, **options)(prompt, negative, latents)
    assert torch.equal(got, wanted) and not torch.allclose(got, before, atol=1e-3)
    assert all(map(torch.equal, *(torch.autograd.grad(images.sum(), prompt) for images in (got, wanted))))
    assert sampler.unet is pipe.unet and sampler.vae is pipe.vae
    assert sampler.record()["scheduler"] == type(pipe.scheduler).__name__


def test_a_scheduler_that_is_configured_anew_is_followed(pipe):
    sampler = accelerate(pipe, num_inference_steps=2, guidance_scale=1.0)
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    with torch.no_grad():
        sampler(embeds(), generator=seed())
    assert sampler.record()["prediction_type"] == "v_prediction"


def scale_in_place(scheduler):
    scheduler.alphas_cumprod.mul_(0.9)


def another_table(scheduler):
    scheduler.alphas_cumprod = scheduler.alphas_cumprod * 0.9


def another_end(scheduler):
    scheduler.final_alpha_cumprod = torch.tensor(1.0)


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize(
    ("kind", "edit"),
    [("ddim", scale_in_place), ("ddim", another_end), ("euler", another_table), ("lcm", another_table)],
)
def test_a_table_of_the_scheduler_that_is_changed_is_followed(pipe, backend, kind, edit):
    pipe.scheduler = make_scheduler(kind)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0}
    sampler, prompts = accelerate(pipe, backend=backend, **options), (embeds(), embeds(seed=1))
    with torch.no_grad():
        before = sampler(*prompts, generator=seed(1))
        edit(pipe.scheduler)
        after = sampler(*prompts, generator=seed(1))
    wanted = own_pictures(pipe, *prompts, num_inference_steps=3, generator=seed(1))
    assert relative(after.clamp(0, 1), wanted) <= 1e-5 < 1e-4 < relative(before, after)


def test_what_sampling_writes_into_the_scheduler_is_no_change(pipe):
    sampler, prompts = accelerate(pipe, num_inference_steps=2, guidance_scale=3.0), (embeds(), embeds(seed=1))
    with torch.no_grad():
        sampler(*prompts, generator=seed(1))
        courses = sampler._courses
        own_pictures(pipe, *prompts, num_inference_steps=5, generator=seed(1))
        sampler(*prompts, generator=seed(1))
    assert sampler._courses is courses


@pytest.mark.parametrize("of_the_class", [False, True])
def test_a_step_that_is_replaced_later_is_refused(pipe, of_the_class, monkeypatch):
    sampler = accelerate(pipe, num_inference_steps=2, guidance_scale=1.0)
    owner = type(pipe.scheduler) if of_the_class else pipe.scheduler
    plain = owner.step
    monkeypatch.setattr(owner, "step", wraps(plain)(lambda *given, **options: plain(*given, **options)))
    with pytest.raises(ValueError, match=r"own DDIMScheduler.step"):
        sampler(embeds(), latents=torch.zeros(1, 4, 8, 8))


def test_a_replaced_part_that_does_not_fit_is_refused_at_every_call_and_the_old_one_still_runs(pipe):
    sampler, latents = accelerate(pipe, num_inference_steps=2, guidance_scale=1.0), torch.zeros(1, 4, 8, 8)
    before, old = sampler(embeds(), latents=latents), pipe.unet
    pipe.unet = tiny_unet(16, in_channels=9)
    for _ in range(2):
        with pytest.raises(ValueError, match="unet: wanted 4 channels in and out"):
            sampler(embeds(), latents=latents)
    pipe.unet = old
    assert torch.equal(sampler(embeds(), latents=latents), before)


@pytest.mark.parametrize("backend", ["fast", "reference", "auto"])
def test_accelerate_takes_every_backend(backend):
    sampler = accelerate(tiny_sd2(), backend=backend, num_inference_steps=1, guidance_scale=1.0)
    assert sampler.backend == ("reference" if backend == "reference" else "fast")


def test_a_patched_decode_is_run_as_it_is(pipe):
    decode = pipe.vae._decode
    pipe.vae._decode = lambda latents, *given, **options: decode(2 * latents, *given, **options)
    latents = torch.randn(1, 4, 8, 8, generator=seed())
    options = {"num_inference_steps": 2, "guidance_scale": 1.0}
    fast, reference = (sampler_of(pipe, backend=backend, **options) for backend in ("fast", "reference"))
    with torch.no_grad():
        assert relative(fast(embeds(), latents=latents), reference(embeds(), latents=latents)) <= 1e-5
    assert "another _decode on the model itself" in fast._engine.unknown
