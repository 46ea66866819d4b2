"""Weights that require grad: the fast engine's gradients of them are plain autograd's, in float64."""

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

from tests.engine.fast.cases import MIXED, STEP_LEVELS, cotangent_of, inputs_of, levels
from tests.engine.fast.trained import (
    ATTENTION,
    CHOSEN,
    assert_same,
    both,
    compared,
    gradients_of,
    models_of,
    sampler_of,
    trained_in,
    with_lora,
)
from tests.engine.plain import SCHEDULERS, Plain, make_scheduler

MODES = ["full", "checkpointed", "last:1", "last:2", "detached", "shortcut:1", "shortcut:2"]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("model", ["sd15", "sd2", "sdxl"])
def test_gradients_of_lora_are_plain_autograd_with_every_scheduler(model, kind, guidance):
    models = with_lora(model)
    with levels(*MIXED, decoder="block"):
        sampler = compared(models, ("prompt_embeds", "latents"), model, kind=kind, steps=3, guidance=guidance)
    assert not sampler._engine.unknown


@pytest.mark.parametrize("level", STEP_LEVELS)
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_gradients_of_lora_are_plain_autograd_at_every_level(model, level):
    models = with_lora(model)
    with levels(level):
        compared(models, (), model, batch=2)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("kind", ["ddim", "dpm"])
def test_gradients_of_lora_are_plain_autograd_in_every_mode(kind, gradient):
    models = with_lora(targets=ATTENTION)
    with levels(*(("step",) if gradient == "checkpointed" else MIXED)):
        compared(models, (), kind=kind, steps=3, gradient=gradient)


@pytest.mark.parametrize("turn", range(2))
@pytest.mark.parametrize(("number", "choose"), [*enumerate(CHOSEN)])
def test_gradients_of_other_weights_are_plain_autograd(number, choose, turn):
    """Every choice with and without guidance, and each scheduler and model now and then."""
    names = ("sd15", "sd2", "sdxl")
    model, kind, guidance = names[(number + turn) % 3], [*SCHEDULERS][(number + 2 * turn) % 4], (1.0, 3.0)[turn]
    models = models_of(model)
    CHOSEN[choose](models)
    sampler = compared(models, (), model, kind=kind, guidance=guidance)
    assert "trainable weights: " in sampler._engine.unknown


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("choose", ["base_weight", "vae_weight", "both"])
def test_gradients_of_other_weights_are_plain_autograd_in_every_mode(choose, gradient):
    models = models_of()
    CHOSEN[choose](models)
    compared(models, ("prompt_embeds",) if choose == "both" else (), steps=3, kind="dpm", gradient=gradient)


@pytest.mark.parametrize(
    "mode", [("full", {}), ("detached", {"detached": True}), ("last:2", {"graph_from": 1})], ids=str
)
@pytest.mark.parametrize("kind", ["ddim", "dpm"])
def test_gradients_of_weights_agree_with_diffusers_own_loop(kind, mode):
    """Both backends against diffusers' own loop."""
    models = models_of()
    both(models)
    gradient, options = mode
    given, leaves = inputs_of("sd15"), trained_in(models)
    images = Plain(models.unet, models.vae, make_scheduler(kind), 3, 3.0, **options)(*given.values())
    truth = dict(zip(leaves, torch.autograd.grad(images, [*leaves.values()], cotangent_of(images)), strict=True))
    for backend in ("fast", "reference"):
        assert_same(gradients_of(sampler_of(models, backend, kind, 3, gradient=gradient), models), truth)


VARIANTS = {
    "DoRA": ({"use_dora": True}, "trainable weights|magnitudes"),
    "bias": ({"lora_bias": True, "targets": ["to_out.0"]}, "trainable weights|biases"),
    "convolutions": ({"targets": ["conv1", "to_q"]}, "trainable weights"),
    "projections around": ({"targets": ["proj_in", "proj_out"]}, "trainable weights"),
    "time": ({"targets": ["time_emb_proj", "linear_1"]}, "trainable weights"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_lora_run_through_the_modules(variant):
    options, reason = VARIANTS[variant]
    models = with_lora(**options)
    sampler = compared(models, ("prompt_embeds",))
    assert any(part in sampler._engine.unknown for part in reason.split("|"))


@pytest.mark.parametrize(
    "options", [{"use_rslora": True}, {"lora_dropout": 0.5}, {"targets": ["to_k", "to_v"]}], ids=str
)
def test_variants_of_two_plain_matrices_stay_lean(options):
    assert not compared(with_lora(**options), ("prompt_embeds",))._engine.unknown


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_a_trained_adapter_beside_a_frozen_and_an_idle_one_gets_its_gradient():
    """One is trained, one acts and is frozen, one is idle."""
    models = with_lora()
    import peft

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        for name, targets in (("frozen", ["to_q", "ff.net.2"]), ("idle", ATTENTION)):
            config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=targets)
            models.unet.add_adapter(config, adapter_name=name)
    models.unet.to(torch.float64).set_adapters(["default", "frozen"], [0.7, 0.5])
    for name, weight in models.unet.named_parameters():
        weight.requires_grad_(".default." in name)
    assert not compared(models)._engine.unknown


@pytest.mark.parametrize("way", ["fuse_lora", "disable_adapters"])
def test_an_adapter_that_does_not_act_has_no_gradient(way):
    models = with_lora()
    getattr(models.unet, way)()
    for name, weight in models.unet.named_parameters():
        weight.requires_grad_("lora_" in name)
    sampler = sampler_of(models)
    assert not sampler._engine.unknown and not sampler(**inputs_of("sd15")).requires_grad


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_weights_that_torch_caches_while_they_are_computed_from_others_get_their_gradient(backend):
    models = models_of()
    parametrizations.weight_norm(models.unet.conv_in).parametrizations.requires_grad_(True)
    sampler, wanted = sampler_of(models, backend), gradients_of(sampler_of(models, "reference"), models)
    with parametrize.cached():
        for _ in range(2):
            assert_same(gradients_of(sampler, models), wanted)
