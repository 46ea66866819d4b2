"""UNet and decoder one call at a time: lean models equal the modules themselves, and follow their edits."""

import copy

import pytest
import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd, tiny_sd2, tiny_sdxl

KINDS = [tiny_sd, tiny_sd2, tiny_sdxl]


def given(pipeline, rows: int = 3):
    """Return rows of noise with a time each, and texts of their own."""
    sample = torch.randn(rows, *pipeline.latent_shape, generator=torch.Generator().manual_seed(0))
    text = pipeline.encode_text(["a red fish", "a boat", "snow"][:rows])
    added = None
    if text.pooled is not None:
        added = {"text_embeds": text.pooled, "time_ids": pipeline.extras(text, rows)["time_ids"]}
    return sample, torch.linspace(999, 1, rows), text.prompt_embeds, added


@pytest.mark.parametrize("make", KINDS)
def test_rows_with_a_time_each_are_those_of_diffusers(make) -> None:
    pipe = make()
    pipeline = load_pipeline(pipe)
    lean, own = (SingleCalls.of(pipe.unet, pipe.vae, backend) for backend in ("fast", "reference"))
    assert lean.described == "lean model" and own.described == "its own modules (asked for)"
    sample, times, embeds, added = given(pipeline)
    with torch.no_grad():
        found = lean.denoise(sample, times, embeds, added)
        for i in range(len(sample)):
            each = None if added is None else {name: value[i : i + 1] for name, value in added.items()}
            wanted = pipe.unet(sample[i : i + 1], times[i], embeds[i : i + 1], added_cond_kwargs=each).sample
            assert torch.allclose(found[i : i + 1], wanted, rtol=0, atol=1e-5)
        pixels = pipe.vae.decode(sample / pipe.vae.config.scaling_factor).sample / 2 + 0.5
        for calls in (lean, own):
            assert torch.allclose(calls.decode(sample), pixels, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", KINDS)
def test_gradients_to_rows_and_text_are_those_of_diffusers(make) -> None:
    pipe = make()
    lean, own = (SingleCalls.of(pipe.unet, pipe.vae, backend) for backend in ("fast", "reference"))
    sample, times, embeds, added = given(load_pipeline(pipe))
    grads = []
    for calls in (lean, own):
        leaves, given_added = [sample.clone().requires_grad_(), embeds.detach().clone().requires_grad_()], added
        if added is not None:
            leaves.append(added["text_embeds"].detach().clone().requires_grad_())
            given_added = added | {"text_embeds": leaves[-1]}
        output = calls.denoise(leaves[0], times, leaves[1], given_added)
        grads.append(torch.autograd.grad(output.square().sum(), leaves))
    for found, wanted in zip(*grads, strict=True):
        assert float((found - wanted).norm() / wanted.norm()) < 1e-4
    assert all(weight.grad is None and weight.requires_grad for weight in pipe.unet.parameters())


def test_a_backward_inside_of_autocast_is_that_of_the_forward() -> None:
    pipe = tiny_sd()
    calls = SingleCalls.of(pipe.unet, pipe.vae, "fast")
    sample, times, embeds, _ = given(load_pipeline(pipe))
    grads = []
    for inside in (False, True):
        leaf = embeds.detach().clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            grads.append(torch.autograd.grad(calls.denoise(sample, times, leaf).square().sum(), leaf)[0])
    assert grads[1].dtype == torch.float32 and torch.equal(*grads)


def test_a_float16_vae_of_xl_decodes_in_float32_where_it_asks_for_it() -> None:
    pipe = tiny_sdxl()
    sample, *_ = given(load_pipeline(pipe))
    pipe.vae.to(torch.float16).register_to_config(force_upcast=True)
    pipe.unet.to(torch.float16)
    for backend in ("fast", "reference"):
        assert SingleCalls.of(pipe.unet, pipe.vae, backend).decode(sample).dtype == torch.float32
    assert pipe.vae.dtype == torch.float16


def test_edits_of_the_data_of_weights_are_followed() -> None:
    pipe = tiny_sd()
    sampler = DifferentiableSampler.from_pipe(pipe, backend="fast", num_inference_steps=2)
    sample, times, embeds, _ = given(load_pipeline(pipe))
    with torch.no_grad():
        for calls in (SingleCalls.of(pipe.unet, pipe.vae, "fast"), sampler.single_calls()):
            for weight in pipe.unet.parameters():
                weight.data.mul_(1.1)
            wanted = pipe.unet(sample, times, embeds).sample
            assert torch.allclose(calls.denoise(sample, times, embeds), wanted, rtol=0, atol=1e-5)


def test_edits_are_followed_and_hooks_run() -> None:
    pipe, seen = tiny_sd(), []
    calls = SingleCalls.of(pipe.unet, pipe.vae, "fast")
    sample, times, embeds, _ = given(load_pipeline(pipe))
    with torch.no_grad():
        before = calls.denoise(sample, times, embeds, None)
        hook = pipe.unet.mid_block.register_forward_hook(lambda *_: seen.append(1))
        assert torch.allclose(calls.denoise(sample, times, embeds, None), before, rtol=0, atol=1e-5)
        assert seen == [1] and "hook" in calls.described
        calls.denoise(sample, times, embeds, None)
        hook.remove()
        assert torch.equal(calls.denoise(sample, times, embeds, None), before)
        assert seen == [1, 1] and calls.described == "lean model"
        pipe.unet.conv_out.bias.add_(1)
        assert torch.allclose(calls.denoise(sample, times, embeds, None), before + 1, rtol=0, atol=1e-5)


def test_a_sampler_shares_its_models_and_follows_a_replaced_unet() -> None:
    pipe = tiny_sd()
    sampler = DifferentiableSampler.from_pipe(pipe, backend="fast", num_inference_steps=2)
    calls = sampler.single_calls()
    assert calls._models.denoiser is sampler._engine.denoiser
    sample, times, embeds, _ = given(load_pipeline(pipe))
    with torch.no_grad():
        pipe.unet.conv_out.bias.add_(1)
        wanted = pipe.unet(sample, times, embeds).sample
        assert torch.allclose(calls.denoise(sample, times, embeds, None), wanted, rtol=0, atol=1e-5)
        assert calls._models.denoiser is sampler._engine.denoiser
        pipe.unet = copy.deepcopy(pipe.unet)
        pipe.unet.conv_out.bias.add_(1)
        wanted = pipe.unet(sample, times, embeds).sample
        assert torch.allclose(sampler.single_calls().denoise(sample, times, embeds, None), wanted, rtol=0, atol=1e-5)
    reference = DifferentiableSampler.from_pipe(pipe, backend="reference", num_inference_steps=2)
    assert reference.single_calls().described == "its own modules (asked for)"
    with pytest.raises(RuntimeError, match="closed"):
        sampler.close()
        sampler.single_calls()


@pytest.mark.parametrize("training", [True, False])
def test_the_modules_stay_as_they_were(training: bool) -> None:
    pipe = tiny_sd()
    pipe.unet.train(training)
    for backend in ("fast", "reference"):
        calls = SingleCalls.of(pipe.unet, pipe.vae, backend)
        sample, times, embeds, _ = given(load_pipeline(pipe))
        calls.denoise(sample, times, embeds.detach().requires_grad_(), None).sum().backward()
        calls.decode(sample)
    assert pipe.unet.training is training
    assert all(weight.requires_grad and weight.grad is None for weight in pipe.unet.parameters())


def edits_of(pipe):
    """Return edits in place of a linear layer, a convolution and a norm of a UNet, and of a linear layer of a VAE."""
    middle = pipe.unet.mid_block
    return {
        "linear": middle.attentions[0].transformer_blocks[0].ff.net[2],
        "convolution": middle.resnets[0].conv1,
        "norm": middle.resnets[0].norm1,
        "decoder": pipe.vae.decoder.mid_block.attentions[0].to_v,
    }


@pytest.mark.parametrize("edited", ["linear", "convolution", "norm", "decoder"])
def test_a_backward_after_an_edit_raises(edited: str) -> None:
    pipe = tiny_sd()
    pipe.unet.requires_grad_(False).to(memory_format=torch.channels_last)
    pipe.vae.requires_grad_(False)
    calls = DifferentiableSampler.from_pipe(pipe, backend="fast", num_inference_steps=2).single_calls()
    sample, times, embeds, _ = given(load_pipeline(pipe))
    leaf = sample.clone().requires_grad_()
    output = calls.decode(leaf) if edited == "decoder" else calls.denoise(leaf, times, embeds)
    with torch.no_grad():
        edits_of(pipe)[edited].weight.mul_(1.5)
    with pytest.raises(RuntimeError, match="was edited between the sampler's call and its backward"):
        output.sum().backward()
    again = calls.decode(leaf) if edited == "decoder" else calls.denoise(leaf, times, embeds)
    own = SingleCalls.of(pipe.unet, pipe.vae, "reference")
    wanted = own.decode(leaf) if edited == "decoder" else own.denoise(leaf, times, embeds)
    grads = [torch.autograd.grad(one.square().sum(), leaf)[0] for one in (again, wanted)]
    assert float((grads[0] - grads[1]).norm() / grads[1].norm()) < 1e-4


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_weights_that_are_trained_later_get_their_gradient(backend: str) -> None:
    pipe = tiny_sd()
    pipe.unet.requires_grad_(False)
    pipe.vae.requires_grad_(False)
    calls = DifferentiableSampler.from_pipe(pipe, backend=backend, num_inference_steps=2).single_calls()
    sample, times, embeds, _ = given(load_pipeline(pipe))
    unet, decoder = pipe.unet.conv_in.weight, pipe.vae.decoder.conv_in.weight
    for weight, run in (
        (unet, lambda: calls.denoise(sample, times, embeds)),
        (decoder, lambda: calls.decode(sample)),
    ):
        with torch.no_grad():
            run()
        assert not run().requires_grad
        weight.requires_grad_(True)
        run().square().sum().backward()
        found, weight.grad = weight.grad, None
        alone = (
            pipe.unet(sample, times, embeds).sample
            if weight is unet
            else pipe.vae.decode(sample / pipe.vae.config.scaling_factor).sample / 2 + 0.5
        )
        alone.square().sum().backward()
        assert found is not None and float((found - weight.grad).norm() / weight.grad.norm()) < 1e-4
        weight.requires_grad_(False)
        weight.grad = None
        assert not run().requires_grad


def test_a_closed_sampler_changes_no_model() -> None:
    pipe = tiny_sd()
    sampler = DifferentiableSampler.from_pipe(pipe, layout="convert", backend="fast", num_inference_steps=2)
    sampler.close()
    pipe.unet = copy.deepcopy(pipe.unet)
    strides = [weight.stride() for weight in pipe.unet.parameters()]
    _, _, embeds, _ = given(load_pipeline(pipe), 1)
    for call in (lambda: sampler(embeds, embeds), sampler.single_calls):
        with pytest.raises(RuntimeError, match="the sampler is closed"):
            call()
        assert [weight.stride() for weight in pipe.unet.parameters()] == strides and sampler._engine is None


def test_transforms_are_refused_by_the_lean_model_alone() -> None:
    pipe = tiny_sd()
    pipe.unet.requires_grad_(False)
    rows, _, embeds, _ = given(load_pipeline(pipe))
    calls = SingleCalls.of(pipe.unet, pipe.vae, "fast")
    for run in (lambda x: calls.denoise(x, 5, embeds), calls.decode):
        with pytest.raises(RuntimeError, match=r"a call inside torch\.func"):
            torch.func.vjp(run, rows)
    with pytest.raises(TypeError, match="closely: wanted True or False"):
        DifferentiableSampler.from_pipe(pipe, num_inference_steps=2).single_calls("no")


def test_an_edit_of_a_buffer_that_is_a_weight_is_followed() -> None:
    pipe = tiny_sd()
    weight = pipe.unet.conv_out.weight.data.clone()
    del pipe.unet.conv_out.weight
    pipe.unet.conv_out.register_buffer("weight", weight)
    calls = SingleCalls.of(pipe.unet, pipe.vae, "fast")
    sample, times, embeds, _ = given(load_pipeline(pipe))
    with torch.no_grad():
        calls.denoise(sample, times, embeds)
        weight.mul_(1.5)
        wanted = pipe.unet(sample, times, embeds).sample
        assert torch.allclose(calls.denoise(sample, times, embeds), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("trains", [False, True])
def test_a_modules_own_checkpointing_is_refused_where_it_would_run_again(trains: bool) -> None:
    pipe = tiny_sd()
    pipe.unet.requires_grad_(False)
    pipe.vae.requires_grad_(False)
    for part in (pipe.unet, pipe.vae):
        part.enable_gradient_checkpointing()
        part.train()
    sample, times, embeds, _ = given(load_pipeline(pipe))
    if trains:
        pipe.unet.conv_in.bias.requires_grad_(True)
        pipe.vae.decoder.conv_in.bias.requires_grad_(True)
    leaf = sample.clone().requires_grad_(not trains)
    for backend in ("reference", "fast"):
        calls = DifferentiableSampler.from_pipe(pipe, backend=backend, num_inference_steps=2).single_calls()
        for name, run in (
            ("unet", lambda calls=calls: calls.denoise(leaf, times, embeds)),
            ("vae", lambda calls=calls: calls.decode(leaf)),
        ):
            with torch.no_grad():
                plain = run()
            if backend == "fast" and not trains:  # lean models checkpoint nothing
                assert torch.allclose(run(), plain, rtol=0, atol=1e-5)
                continue
            with pytest.raises(ValueError, match=rf"{name}.gradient_checkpointing: wanted {name}.disable_gradient_ch"):
                run()


def test_weights_made_in_inference_mode_are_refused_where_a_gradient_goes_through_them() -> None:
    with torch.inference_mode():
        pipe = tiny_sd()
    pipe.vae.requires_grad_(False)
    calls = SingleCalls.of(pipe.unet, pipe.vae, "reference")
    sample = torch.ones(1, *load_pipeline(pipe).latent_shape)
    assert not calls.decode(sample).requires_grad
    with pytest.raises(ValueError, match="vae: wanted a vae loaded outside"):
        calls.decode(sample.requires_grad_())
