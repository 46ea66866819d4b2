"""Models with trained weights, and the comparison of their gradients with plain autograd's."""

import copy

import pytest
import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from tests.engine.fast.cases import PREDICTIONS, cotangent_of, inputs_of, parts
from tests.engine.plain import make_scheduler, relative

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERY = [*ATTENTION, "ff.net.0.proj", "ff.net.2"]


def models_of(model="sd15"):
    """UNet and VAE of their own with no trained weight."""
    made = copy.deepcopy(parts(model))
    made.unet.requires_grad_(False)
    made.vae.requires_grad_(False)
    return made


def with_lora(model="sd15", targets=EVERY, **options):
    """Models with an adapter whose matrices are not zero."""
    peft, models = pytest.importorskip("peft"), models_of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = peft.LoraConfig(
            **{"r": 3, "lora_alpha": 2, "init_lora_weights": False, **options}, target_modules=targets
        )
        models.unet.add_adapter(config)
    models.unet.to(torch.float64).eval()
    return models


def trained_in(models):
    return {
        f"{part}.{name}": weight
        for part in ("unet", "vae")
        for name, weight in getattr(models, part).named_parameters()
        if weight.requires_grad
    }


def sampler_of(models, backend="fast", kind="ddim", steps=2, guidance=3.0, model="sd15", **options):
    return DifferentiableSampler(
        unet=models.unet,
        vae=models.vae,
        scheduler=make_scheduler(kind, PREDICTIONS[model]),
        num_inference_steps=steps,
        guidance_scale=guidance,
        backend=backend,
        **options,
    )


def gradients_of(sampler, models, wanted=(), model="sd15", batch=1):
    """Gradients of random weights of the pixels by name, for the trained weights and some arguments."""
    given = {name: value.clone().requires_grad_(name in wanted) for name, value in inputs_of(model, batch).items()}
    leaves = {**trained_in(models), **{name: given[name] for name in wanted}}
    images = sampler(**given, generator=torch.Generator().manual_seed(11))
    found = torch.autograd.grad(images, [*leaves.values()], cotangent_of(images), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def assert_same(got, wanted):
    assert got.keys() == wanted.keys() and any(grad is not None for grad in wanted.values())
    for name, truth in wanted.items():
        if truth is None:
            assert got[name] is None, name
        else:
            assert truth.norm() > 0 and relative(got[name], truth) <= 1e-10, name


def compared(models, wanted=(), model="sd15", batch=1, **options):
    """Compare both backends; return the fast sampler."""
    sampler = sampler_of(models, model=model, **options)
    truth = gradients_of(sampler_of(models, "reference", model=model, **options), models, wanted, model, batch)
    assert_same(gradients_of(sampler, models, wanted, model, batch), truth)
    return sampler


def base_weight(models):
    models.unet.down_blocks[0].resnets[0].conv1.weight.requires_grad_(True)


def time_weight(models):
    models.unet.time_embedding.linear_1.bias.requires_grad_(True)


def vae_weight(models):
    models.vae.decoder.conv_in.weight.requires_grad_(True)


def both(models):
    models.unet.conv_out.bias.requires_grad_(True)
    models.vae.post_quant_conv.weight.requires_grad_(True)


def whole_unet(models):
    models.unet.requires_grad_(True).train()


CHOSEN = {choose.__name__: choose for choose in (base_weight, time_weight, vae_weight, both, whole_unet)}
