"""Weights that are stored away from where they compute, or in another dtype: refused with the way out."""

import pytest
import torch

from diffexplain_fast.engine.accelerated import accelerate
from diffexplain_fast.models.watch import own_parts
from tests.engine.plain import relative
from tests.engine.samplers import embeds
from tests.tiny import tiny_sd

hooks = pytest.importorskip("accelerate.hooks")
offloading = pytest.importorskip("accelerate")
UNHOOKED = r"\(pipe.remove_all_hooks\(\) and pipe.to\(device\); memory='8GiB' of the sampler keeps a limit\)"
KINDS = {
    "accelerate": (
        lambda part: offloading.cpu_offload(part, execution_device="cpu"),
        f"{UNHOOKED}, got those of enable_sequential_cpu_offload or accelerate's cpu_offload",
    ),
    "whole models": (
        lambda part: hooks.add_hook_to_module(part, hooks.CpuOffload("cpu")),
        f"{UNHOOKED}, got those of enable_model_cpu_offload",
    ),
    "beside another hook": (
        lambda part: hooks.add_hook_to_module(part, hooks.SequentialHook(hooks.ModelHook(), hooks.CpuOffload("cpu"))),
        f"{UNHOOKED}, got those of enable_model_cpu_offload",
    ),
    "groups": (
        lambda part: part.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level"),
        r"\(a pipeline loaded without it; .*\), got those of enable_group_offload",
    ),
    "casting": (
        lambda part: part.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32),
        r"without enable_layerwise_casting\), got torch.bfloat16, which every run converts",
    ),
    "meta": (lambda part: part.to("meta"), r"\(to_empty\(device=...\) .*got weights on the meta device"),
}


@pytest.mark.parametrize("backend", ["fast", "reference", "auto"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_stored_weights_are_refused_before_and_after_a_sampler_is_made(part, kind, backend):
    pipe = tiny_sd()
    sampler = accelerate(pipe, backend=backend, memory=None, num_inference_steps=2)
    store, message = KINDS[kind]
    store(getattr(pipe, part))
    with pytest.raises(ValueError, match=f"^{part}: wanted weights .*{message}"):
        sampler(embeds(), embeds(seed=1))
    with pytest.raises(ValueError, match=f"^{part}: wanted weights .*{message}"):
        accelerate(pipe, backend=backend, memory=None)


def test_the_way_out_of_offloading_gives_the_same_images_on_lean_models():
    pipe = tiny_sd()
    sampler, noise = accelerate(pipe, memory=None, num_inference_steps=2), torch.ones(1, 4, 8, 8)
    wanted = sampler(embeds(), embeds(seed=1), noise)
    for part in (pipe.unet, pipe.vae):
        offloading.cpu_offload(part, execution_device="cpu")
    pipe.remove_all_hooks()
    assert relative(sampler(embeds(), embeds(seed=1), noise), wanted) <= 1e-6
    assert not sampler._engine.unknown and own_parts(pipe.unet) == []


def test_a_hook_that_moves_no_weight_is_allowed():
    pipe = tiny_sd()
    hooks.add_hook_to_module(pipe.unet, hooks.AlignDevicesHook(execution_device="cpu"))
    images = accelerate(pipe, memory=None, num_inference_steps=2)(embeds(), embeds(seed=1))
    assert images.isfinite().all()


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_models_that_are_on_the_meta_device_as_a_whole_draw_images_without_values(backend):
    pipe = tiny_sd()
    for part in (pipe.unet, pipe.vae):
        part.to("meta")
    sampler = accelerate(pipe, backend=backend, memory=None, num_inference_steps=2)
    images = sampler(embeds().to("meta"), embeds(seed=1).to("meta"), torch.ones(1, 4, 8, 8, device="meta"))
    assert images.is_meta and images.shape[:2] == (1, 3)
