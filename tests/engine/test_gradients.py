"""Images and gradients of both backends against plain autograd through diffusers' loop and finite differences."""

import copy

import pytest
import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from tests.engine.plain import SCHEDULERS, Plain, gradients, make_scheduler, relative

STEPS = 3
RUNNING = {"backend": "auto"}
"""What ``pair`` builds; every test of this file runs with both backends."""


@pytest.fixture(params=["reference", "fast"], autouse=True)
def backend(request, monkeypatch):
    """The backend under test."""
    monkeypatch.setitem(RUNNING, "backend", request.param)
    return request.param


def pair(pipe, kind, prediction_type="epsilon", guidance=3.0, gradient="full", steps=STEPS, **plain):
    """The sampler and diffusers' loop over the same modules."""
    scheduler = make_scheduler(kind, prediction_type)
    sampler = DifferentiableSampler(
        unet=pipe.unet,
        vae=pipe.vae,
        scheduler=scheduler,
        num_inference_steps=steps,
        guidance_scale=guidance,
        gradient=gradient,
        backend=RUNNING["backend"],
    )
    return sampler, Plain(pipe.unet, pipe.vae, scheduler, steps, guidance, **plain)


def seeded():
    return torch.Generator().manual_seed(11)


def assert_agrees(sampler, plain, given):
    """Images and both gradients, to 1e-10 of their size."""
    inputs = (given.prompt, given.latents)
    got = sampler(given.prompt, given.negative, given.latents, seeded())
    truth = plain(given.prompt, given.negative, given.latents, seeded())
    assert got.dtype == torch.float64 and got.shape == given.cotangent.shape
    assert relative(got, truth) <= 1e-10
    compared = zip(gradients(got, given.cotangent, *inputs), gradients(truth, given.cotangent, *inputs), strict=True)
    for of_got, of_truth in compared:
        assert of_truth.norm() > 0 and relative(of_got, of_truth) <= 1e-10


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_full_gradient_is_plain_autograd(sd, inputs, kind, prediction_type, guidance, batch):
    assert_agrees(*pair(sd, kind, prediction_type, guidance), inputs(batch))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_full_gradient_is_plain_autograd_at_other_step_counts(sd, inputs, steps):
    assert_agrees(*pair(sd, "dpm", steps=steps), inputs())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_of_twenty_steps_are_those_of_the_plain_loop(sd, inputs, guidance):
    sampler, plain = pair(sd, "ddim", guidance=guidance, steps=20)
    given = inputs()
    with torch.no_grad():
        got = sampler(given.prompt, given.negative, given.latents)
        assert relative(got, plain(given.prompt, given.negative, given.latents)) <= 1e-10


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_full_gradient_agrees_with_finite_differences(sd, inputs, kind, prediction_type, guidance):
    """<cotangent, images> along random directions, central differences."""
    sampler, _ = pair(sd, kind, prediction_type, guidance, steps=2)
    given, generator, width = inputs(), torch.Generator().manual_seed(3), 1e-5
    images = sampler(given.prompt, given.negative, given.latents, seeded())
    of_inputs = gradients(images, given.cotangent, given.prompt, given.latents)
    for i in range(2):
        way = torch.randn(of_inputs[i].shape, generator=generator, dtype=torch.float64)

        @torch.no_grad()
        def value(distance, i=i, way=way):
            moved = [given.prompt, given.latents]
            moved[i] = moved[i] + distance * way
            return (sampler(moved[0], given.negative, moved[1], seeded()) * given.cotangent).sum()

        numeric = (value(width) - value(-width)) / (2 * width)
        scale = of_inputs[i].norm() * way.norm() / way.numel() ** 0.5  # the derivative along a typical direction
        assert abs(numeric - (of_inputs[i] * way).sum()) <= 1e-7 * scale


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_checkpointed_gives_the_full_gradient(sd, inputs, kind, guidance):
    full, _ = pair(sd, kind, guidance=guidance)
    checkpointed, _ = pair(sd, kind, guidance=guidance, gradient="checkpointed")
    given = inputs(2)
    results = []
    for sampler in (full, checkpointed):
        images = sampler(given.prompt, given.negative, given.latents, seeded())
        results.append((images, *gradients(images, given.cotangent, given.prompt, given.latents)))
    assert all(torch.equal(*both) for both in zip(*results, strict=True))


def test_checkpointed_recomputes_every_step_once_and_stores_less(sd, inputs, backend):
    if backend == "fast":
        pytest.skip("the lean models call no module that could be counted; test_fast.py counts their bytes")
    given, calls, kept = inputs(), [], {}
    handle = sd.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        for gradient in ("full", "checkpointed"):
            sizes = []

            def pack(tensor, sizes=sizes):
                sizes.append(tensor.numel())
                return tensor

            sampler, _ = pair(sd, "ddim", gradient=gradient)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                images = sampler(given.prompt, given.negative, given.latents)
            kept[gradient], before = sum(sizes), len(calls)
            gradients(images, given.cotangent, given.prompt)
            assert (before, len(calls) - before) == ((STEPS, 0) if gradient == "full" else (STEPS, STEPS))
            calls.clear()
    finally:
        handle.remove()
    assert kept["checkpointed"] < kept["full"] / 20


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("last", [1, 2])
def test_last_k_is_autograd_through_the_last_k_steps(sd, inputs, kind, last):
    sampler, plain = pair(sd, kind, gradient=f"last:{last}", graph_from=STEPS - last)
    given = inputs(2)
    images = sampler(given.prompt, given.negative, given.latents, seeded())
    truth = plain(given.prompt, given.negative, given.latents, seeded())
    assert relative(images, truth) <= 1e-10
    (got,), (wanted,) = (gradients(each, given.cotangent, given.prompt) for each in (images, truth))
    assert relative(got, wanted) <= 1e-10
    full, _ = pair(sd, kind)
    images = full(given.prompt, given.negative, given.latents, seeded())
    (whole,) = gradients(images, given.cotangent, given.prompt)
    assert relative(got, whole) > 1e-3


def test_last_k_with_every_step_is_the_full_gradient(sd, inputs):
    sampler, plain = pair(sd, "dpm", gradient=f"last:{STEPS}")
    assert_agrees(sampler, plain, inputs())


def test_last_steps_build_no_graph_for_the_rest(sd, inputs):
    sampler, _ = pair(sd, "ddim", gradient="last:1")
    given = inputs()
    with pytest.raises(RuntimeError, match="not have been used"):
        gradients(sampler(given.prompt, given.negative, given.latents), given.cotangent, given.latents)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_detached_is_autograd_with_detached_denoiser_inputs(sd, inputs, kind, prediction_type):
    assert_agrees(*pair(sd, kind, prediction_type, gradient="detached", detached=True), inputs(2))


def test_detached_is_the_recursion_computed_by_hand(sd, inputs):
    """DDIM: g_i = a_i g_{i+1}, and the prompt's gradient is the sum of b_i J_p^T g_{i+1} (guided: only its row)."""
    given, guidance = inputs(), 3.0
    sampler, _ = pair(sd, "ddim", guidance=guidance, gradient="detached")
    images = sampler(given.prompt, given.negative, given.latents)
    got_prompt, got_latents = gradients(images, given.cotangent, given.prompt, given.latents)

    alphas = make_scheduler("ddim").alphas_cumprod.double()
    times = [666 + 1, 333 + 1, 1]
    a, b = [], []
    for t in times:
        here, there = alphas[t], alphas[max(t - 333, 0)]
        a.append((there / here).sqrt())
        b.append((1 - there).sqrt() - (there * (1 - here) / here).sqrt())

    def predict(x, t, embeds):
        return sd.unet(x, t, encoder_hidden_states=embeds).sample

    with torch.no_grad():
        samples = [given.latents]
        for i, t in enumerate(times):
            u, c = predict(samples[i], t, given.negative), predict(samples[i], t, given.prompt)
            samples.append(a[i] * samples[i] + b[i] * ((1 - guidance) * u + guidance * c))
    clean = samples[-1].clone().requires_grad_()
    decoded = sd.vae.decode(clean / sd.vae.config.scaling_factor).sample / 2 + 0.5
    (g,) = gradients(decoded, given.cotangent, clean)
    of_prompt = torch.zeros_like(given.prompt)
    for i in reversed(range(STEPS)):
        (back,) = torch.autograd.grad(predict(samples[i], times[i], given.prompt), given.prompt, b[i] * guidance * g)
        of_prompt += back
        g = a[i] * g
    assert relative(got_prompt, of_prompt) <= 1e-10
    assert relative(got_latents, g) <= 1e-10


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_float32_errs_no_more_than_plain_pytorch(sd, inputs, kind):
    """The truth is float64; the limit is twice (gradients: three times) what diffusers' own loop errs in float32."""
    single = type("Parts", (), {p: copy.deepcopy(getattr(sd, p)).float() for p in ("unet", "vae")})
    given = inputs()
    generator = None if kind == "lcm" else seeded()
    steps = 1 if kind == "lcm" else STEPS  # float32 draws other noise, and one step draws none
    arguments = [given.prompt, given.negative, given.latents]
    small = [each.detach().float().requires_grad_() for each in arguments]
    _, truth_loop = pair(sd, kind, steps=steps)
    sampler, plain = pair(single, kind, steps=steps)
    results = []
    for run, these in ((truth_loop, arguments), (sampler, small), (plain, small)):
        images = run(*these, generator)
        back = gradients(images, given.cotangent.to(images.dtype), these[0], these[2])
        results.append([images, *back])
    assert results[1][0].dtype == torch.float32
    eps = torch.finfo(torch.float32).eps
    for factor, truth, got, usual in zip((2, 3, 3), *results, strict=True):
        limit = factor * (relative(usual.double(), truth) + eps)
        assert relative(got.double(), truth) <= limit


@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_gradients_of_stable_diffusion_xl_are_plain_autograd(sdxl, xl_inputs, guidance, gradient):
    sampler, plain = pair(sdxl, "euler", guidance=guidance, gradient=gradient, steps=2)
    given = xl_inputs(2)
    generator = torch.Generator().manual_seed(5)
    pooled, negative_pooled = (torch.randn((n, 24), generator=generator, dtype=torch.float64) for n in (2, 1))
    pooled.requires_grad_()
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]], dtype=torch.float64).repeat(2, 1)
    conditions = [{"text_embeds": each.expand(2, -1), "time_ids": sizes} for each in (pooled, negative_pooled)]
    truth = plain(given.prompt, given.negative, given.latents, added=conditions)
    inputs = (given.prompt, given.latents, pooled)
    of_truth = gradients(truth, given.cotangent, *inputs)
    for time_ids in (None, sizes, sizes[:1]):
        got = sampler(
            given.prompt,
            given.negative,
            given.latents,
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=negative_pooled,
            time_ids=time_ids,
        )
        assert relative(got, truth) <= 1e-10
        of_got = gradients(got, given.cotangent, *inputs)
        assert all(relative(*both) <= 1e-10 for both in zip(of_got, of_truth, strict=True))
