"""Two losses on one sampling, checkpointing around it, and the ways to differentiate that are refused."""

import copy
import gc

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from diffexplain_fast.engine.accelerated import accelerate
from diffexplain_fast.engine.memory.counting import live_bytes
from tests.engine.graphs.test_recording import REPLAYED, Rerun, graphed, state
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd, tiny_sdxl

F64 = torch.float64
NEGATIVE = embeds(seed=9, dtype=F64)
NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
MODES = ["full", "checkpointed", "detached", "last:1", "shortcut:1"]


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd().to(F64)


@pytest.fixture
def prompt():
    return embeds(dtype=F64).requires_grad_()


def drawing(pipe, **options):
    """A sampler as a function of the prompt, and the sampler."""
    sampler = sampler_of(pipe, backend="fast", memory=None, **options)
    return (lambda prompt: sampler(prompt, NEGATIVE, latents=NOISE)), sampler


def pull(images, leaf, retain=False):
    return torch.autograd.grad(images.square().sum(), leaf, retain_graph=retain)[0]


@pytest.mark.parametrize(
    "options", [*({"gradient": mode} for mode in MODES), {"kind": "dpm"}, {"deterministic": True}], ids=str
)
def test_every_backward_of_one_sampling_is_right(pipe, prompt, options):
    draw, _ = drawing(pipe, **options)
    plain = sampler_of(pipe, backend="reference", **{key: options[key] for key in options if key != "deterministic"})
    wanted = pull(plain(prompt, NEGATIVE, latents=NOISE), prompt)
    images = draw(prompt)
    first, second, third = (pull(images, prompt, retain=number < 2) for number in range(3))
    assert relative(first, wanted) <= 1e-10
    assert torch.equal(second, first) and torch.equal(third, first)
    with pytest.raises(RuntimeError, match="second time"):
        pull(images, prompt)


def test_backwards_of_several_losses_and_a_jacobian_are_plain_autograd(pipe, prompt):
    sampler, plain = (sampler_of(pipe, backend=backend, kind="euler") for backend in ("fast", "reference"))
    leaves = (prompt, NEGATIVE.clone().requires_grad_(), NOISE.clone().requires_grad_())

    def rows(made):
        def some(prompt, negative, latents):
            return made(prompt, negative, latents=latents)[:, :, 0, 0].flatten()

        return torch.autograd.functional.jacobian(some, leaves)

    assert all(relative(*pair) <= 1e-10 for pair in zip(rows(sampler), rows(plain), strict=True))


def test_time_shifts_that_carry_a_gradient_run_again():
    """Those of Stable Diffusion XL follow from the pooled text."""
    sampler = sampler_of(tiny_sdxl().to(F64), backend="fast", guidance_scale=1.0)
    prompt, pooled = embeds(width=40, dtype=F64).requires_grad_(), torch.ones(1, 24, dtype=F64, requires_grad=True)
    images = sampler(prompt, latents=NOISE, pooled_prompt_embeds=pooled)
    first, second = (pull(images, pooled, retain=True) for _ in range(2))
    assert first.abs().sum() > 0 and torch.equal(first, second)


def test_a_replayed_call_goes_back_through_a_replay_again(pipe, prompt):
    draw, sampler = drawing(pipe)
    graphed(sampler)
    wanted = pull(draw(prompt), prompt)
    pull(draw(prompt), prompt), pull(draw(prompt), prompt)  # the second has the unconditional rows known
    Rerun.recorded = 0
    images = draw(prompt)
    assert state(sampler) == REPLAYED
    found = [pull(images, prompt, retain=True)]
    found.append(pull(images, prompt, retain=True))
    other = draw(prompt)  # holds the recording, so the next one runs operation by operation
    found.append(pull(images, prompt))
    found.append(pull(other, prompt))
    assert all(torch.equal(one, wanted) for one in found) and Rerun.recorded == 0


def test_models_edited_between_two_backwards_raise(prompt):
    pipe = tiny_sd().to(F64)
    draw, _ = drawing(pipe)
    images = draw(prompt)
    pull(images, prompt, retain=True)
    with torch.no_grad():
        pipe.unet.conv_in.weight.mul_(1.1)
    with pytest.raises(RuntimeError, match="the UNet or the VAE was edited"):
        pull(images, prompt)


def test_the_first_backward_frees_what_the_call_kept(pipe, prompt):
    draw, _ = drawing(pipe)
    pull(draw(prompt), prompt)
    gc.collect()
    with live_bytes() as live:
        images = draw(prompt)
        kept = live.now
        pull(images, prompt, retain=True)
        gc.collect()
        assert live.now < 0.05 * kept
        pull(images, prompt, retain=True)
        gc.collect()
        assert live.now < 0.05 * kept


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("gradient", MODES)
def test_checkpointing_around_the_sampler_gives_the_same_gradient(pipe, prompt, gradient, replayed):
    draw, sampler = drawing(pipe, gradient=gradient)
    if replayed:
        graphed(sampler)
        for _ in range(3):
            pull(draw(prompt), prompt)

    def loss(prompt):
        return draw(prompt).tanh().square()

    wanted = pull(loss(prompt), prompt)
    assert not replayed or state(sampler) == REPLAYED
    images = checkpoint(loss, prompt, use_reentrant=False)
    assert torch.equal(pull(images, prompt, retain=True), wanted) and torch.equal(pull(images, prompt), wanted)
    nested = checkpoint(lambda prompt: checkpoint(loss, prompt, use_reentrant=False), prompt, use_reentrant=False)
    assert torch.equal(pull(nested, prompt), wanted)
    prompt.grad = None
    checkpoint(loss, prompt, use_reentrant=True).square().sum().backward()
    assert torch.equal(prompt.grad, wanted)


def test_what_checkpointing_computes_again_keeps_one_sample_a_step(pipe, prompt):
    """Its backward is that of the call it repeats, so a second one beside it would be for nothing."""
    draw, _ = drawing(pipe)
    peaks = {}
    for name in ("plain", "checkpointed"):
        gc.collect()
        with live_bytes() as live:
            images = draw(prompt) if name == "plain" else checkpoint(draw, prompt, use_reentrant=False)
            pull(images, prompt)
            peaks[name] = live.peak
    assert peaks["checkpointed"] < 1.5 * peaks["plain"]


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("gradient", MODES)
def test_a_second_derivative_names_the_sampler(pipe, prompt, gradient, checkpointed):
    draw, _ = drawing(pipe, gradient=gradient)
    images = checkpoint(draw, prompt, use_reentrant=False) if checkpointed else draw(prompt)
    (first,) = torch.autograd.grad(images.sum(), prompt, create_graph=True)
    with pytest.raises(RuntimeError, match=r"the sampler.* has no second derivative"):
        torch.autograd.grad(first.square().sum() + prompt.sum(), prompt)


def dual(draw, prompt):
    with forward_ad.dual_level():
        draw(forward_ad.make_dual(prompt, prompt))


WAYS = {
    "grad": lambda draw, x: torch.func.grad(lambda x: draw(x).sum())(x),
    "vjp": lambda draw, x: torch.func.vjp(draw, x),
    "jvp": lambda draw, x: torch.func.jvp(draw, (x,), (x,)),
    "vmap": lambda draw, x: torch.func.vmap(lambda x: draw(x[None]))(x),
    "forward mode": dual,
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch's forward mode
@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("way", WAYS)
def test_transforms_name_the_sampler(pipe, way, backend):
    sampler = sampler_of(pipe, backend=backend)
    with pytest.raises(RuntimeError, match=r"^the sampler: wanted torch.autograd.grad or Tensor.backward.*, got a "):
        WAYS[way](lambda prompt: sampler(prompt, NEGATIVE, latents=NOISE), embeds(dtype=F64))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch's forward mode
@pytest.mark.parametrize("way", WAYS)
def test_a_transform_around_the_first_call_with_another_unet_names_the_sampler_too(way):
    """The sampler reads the new UNet before a call, but not inside a transform."""
    made = tiny_sd().to(F64)
    sampler = accelerate(made, num_inference_steps=2, guidance_scale=3.0, backend="fast")
    made.unet = copy.deepcopy(made.unet)
    with pytest.raises(RuntimeError, match=r"^the sampler: wanted torch.autograd.grad or Tensor.backward.*, got a "):
        WAYS[way](lambda prompt: sampler(prompt, NEGATIVE, latents=NOISE), embeds(dtype=F64))
    assert sampler(embeds(dtype=F64), NEGATIVE, latents=NOISE).isfinite().all() and sampler.unet is made.unet


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch's forward mode
@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("what", ["weight", "sizes"])
def test_a_tangent_of_a_weight_or_of_sizes_names_the_sampler(pipe, what, backend):
    sampler, ids = sampler_of(pipe, backend=backend), torch.ones(1, 6, dtype=F64)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=r"^the sampler: wanted .* a tensor with a tangent"):
        if what == "sizes":
            sampler(embeds(dtype=F64), NEGATIVE, latents=NOISE, time_ids=forward_ad.make_dual(ids, ids))
        else:
            bias = pipe.unet.conv_out.bias.detach()
            pipe.unet.conv_out._parameters["bias"] = forward_ad.make_dual(bias, bias)
            sampler(embeds(dtype=F64), NEGATIVE, latents=NOISE)


def test_a_batch_of_cotangents_names_the_sampler(pipe, prompt):
    images = drawing(pipe)[0](prompt).flatten()[:2]
    with pytest.raises(RuntimeError, match=r"^the sampler: wanted .* one call for each row of cotangents, got a batch"):
        torch.autograd.grad(images, prompt, torch.eye(2, dtype=F64), is_grads_batched=True)


def test_a_second_backward_after_an_overflow_runs_in_the_wider_dtype_again():
    """A second backward of a call that left float16 leaves it again, and says so again."""
    pipe = tiny_sd().to(torch.float16)
    with torch.no_grad():
        pipe.unet.conv_out.weight.mul_(2.0**15)
        pipe.unet.conv_out.bias.fill_(3e4)
    sampler = sampler_of(pipe, backend="fast", memory=None, retry_dtype=torch.float32)
    prompt = embeds(dtype=torch.float16).requires_grad_()
    with pytest.warns(RuntimeWarning, match="runs again in torch.float32"):
        images = sampler(prompt, NEGATIVE.half(), latents=NOISE.half())
    first = torch.autograd.grad(images, prompt, 2.0**-8 * images.detach(), retain_graph=True)[0]
    with pytest.warns(RuntimeWarning, match="runs again in torch.float32"):
        second = torch.autograd.grad(images, prompt, 2.0**-8 * images.detach())[0]
    assert torch.equal(first, second) and sampler.record()["retried_calls"] == 2
