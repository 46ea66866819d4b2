"""Pipelines that draw from more than text are refused by the name of the further input; others are accepted."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch

from diffexplain_fast.engine.accelerated import accelerate
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.text_to_image import IP_ADAPTER, MORE, check_text_to_image, more_than_text
from tests.tiny import tiny_sd, tiny_sdxl, tiny_unet

PAGE = (Path(__file__).parents[2] / "docs" / "supported.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
REFUSED = {row[0]: row for row in ROWS if len(row) == 3 and row[0] in {more.name for more in (*MORE, IP_ADAPTER)}}
PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


def of_class(kind, plain):
    """Return a pipeline of a diffusers class from a plain pipeline; a module stands for each further component."""
    made = kind.__new__(kind)
    diffusers.DiffusionPipeline.__init__(made)
    for name in inspect.signature(kind.__init__).parameters:
        if name in plain.components:
            made.register_modules(**{name: plain.components[name]})
        elif name in ("controlnet", "adapter", "motion_adapter"):
            made.register_modules(**{name: torch.nn.Linear(1, 1)})
    return made


def classes(row):
    return re.findall(r"`(\w+Pipeline)`", row[1])


def test_the_page_names_every_refused_input():
    assert set(REFUSED) == {more.name for more in (*MORE, IP_ADAPTER)}
    for more in (*MORE, IP_ADAPTER):
        assert more.instead.format(plain="StableDiffusionPipeline") in REFUSED[more.name][2].replace("`", "")
        assert classes(REFUSED[more.name]) or more is IP_ADAPTER


@pytest.mark.parametrize("name", [more.name for more in MORE])
def test_the_classes_on_the_page_are_refused_by_the_name_on_the_page(name):
    for kind in classes(REFUSED[name]):
        pipe = of_class(getattr(diffusers, kind), tiny_sdxl() if "XL" in kind else tiny_sd())
        plain = "StableDiffusionXLPipeline" if "XL" in kind else "StableDiffusionPipeline"
        more = next(more for more in MORE if more.name == name)
        for refuse in (accelerate, load_pipeline, check_text_to_image):
            with pytest.raises(ValueError, match=f"{kind}, which draws from {re.escape(name)} too") as refused:
                refuse(pipe)
            assert more.instead.format(plain=plain) in str(refused.value)


def test_no_pipeline_of_diffusers_that_draws_from_more_is_taken():
    """The only classes with a UNet, a VAE and a scheduler that draw only from text."""
    taken = set()
    for name in filter(lambda name: name.endswith("Pipeline"), dir(diffusers)):
        kind = getattr(diffusers, name)
        asked = set(inspect.signature(kind.__init__).parameters)
        if {"unet", "vae", "scheduler"} <= asked and hasattr(kind, "__call__"):  # noqa: B004 - of instances
            fresh = kind.__new__(kind)
            config = dict.fromkeys(asked & {*PARTS, "controlnet", "adapter", "motion_adapter"}, ("diffusers", "X"))
            object.__setattr__(fresh, "_internal_dict", config)
            for part in config:
                object.__setattr__(fresh, part, SimpleNamespace(config=None))
            taken |= set() if any(more_than_text(fresh)) else {name}
    assert {"StableDiffusionPipeline", "StableDiffusionXLPipeline"} <= taken
    assert taken <= {
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "AltDiffusionPipeline",  # the same call with another text encoder
        "LatentConsistencyModelPipeline",  # its UNet's guidance embedding is refused by name
        "StableDiffusionLDM3DPipeline",  # its VAE's six channels are refused by name
        "StableDiffusionModelEditingPipeline",  # edits the weights once, then draws from text
    }


def test_an_ip_adapter_is_refused_until_it_is_unloaded():
    pipe = tiny_sd()
    pipe.unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    with pytest.raises(ValueError, match=r"unload_ip_adapter\(\)\), got .*which draws from IP-adapter too"):
        accelerate(pipe)
    pipe.unet.register_to_config(encoder_hid_dim_type=None)
    assert accelerate(pipe).backend == "fast"


class Plain(diffusers.StableDiffusionPipeline):
    """A subclass without a further input."""


class Reference(diffusers.StableDiffusionPipeline):
    """A community pipeline that draws from a picture too."""

    def __call__(self, prompt=None, ref_image=None, **kwargs):
        """Draw."""


class Weighted(diffusers.StableDiffusionPipeline):
    """A community pipeline with another way to encode its prompts."""

    def encode_prompt(self, *args, **kwargs):
        """Encode."""


def made(kind, **more):
    parts = {**tiny_sd().components, **more}
    return kind(**parts, requires_safety_checker=False)


def test_subclasses_are_judged_by_what_they_draw_from():
    assert accelerate(made(Plain)).backend == "fast" and load_pipeline(made(Plain)).name == "Plain"
    for refuse in (accelerate, load_pipeline):
        with pytest.raises(ValueError, match="draws from the argument 'ref_image' of its call too"):
            refuse(made(Reference))
    assert accelerate(made(Weighted)).backend == "fast"  # the sampler never encodes a prompt
    with pytest.raises(ValueError, match=r"pipeline: wanted .*got Weighted, which has an encode_prompt of its own"):
        load_pipeline(made(Weighted))


def test_other_objects_are_judged_by_their_components():
    pipe = tiny_sd()
    parts = SimpleNamespace(unet=pipe.unet, vae=pipe.vae, scheduler=pipe.scheduler)
    assert accelerate(parts).backend == "fast" and accelerate(load_pipeline(pipe)).backend == "fast"
    parts.controlnet = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="draws from ControlNet too"):
        accelerate(parts)
    pipe.register_modules(depth_estimator=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="draws from its component 'depth_estimator' too"):
        accelerate(pipe)


def test_a_component_that_is_none_does_not_count():
    pipe = tiny_sd()
    pipe.register_modules(controlnet=None)
    assert not list(more_than_text(pipe))


def freeu(pipe):
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)


def tiled(pipe):
    pipe.vae.enable_tiling()


def hooked(pipe):
    pipe.unet.conv_in.register_forward_hook(lambda *_: None)


def replaced(pipe):
    layer = pipe.unet.conv_in
    plain = layer._conv_forward
    layer._conv_forward = lambda *given: plain(*given)


def processed(pipe):
    from diffusers.models.attention_processor import SlicedAttnProcessor

    pipe.unet.set_attn_processor(SlicedAttnProcessor(1))


def another_module(pipe):
    pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_out[1] = torch.nn.Tanh()


def tiny_decoder(pipe):
    pipe.vae = diffusers.AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        decoder_block_out_channels=(8, 8),
        num_decoder_blocks=(1, 1),
    )


def trained(pipe):
    pipe.unet.requires_grad_(False)
    pipe.unet.conv_in.weight.requires_grad_(True)


OWN_MODULES = {
    "FreeU": freeu,
    "tiled or sliced VAE": tiled,
    "hooks on a module": hooked,
    "methods replaced in a module or in its class, such as a convolution that tiles": replaced,
    "attention processors of your own": processed,
    "modules of your own, such as an activation in place of a `Dropout`, "
    "one more in a list, or one that never runs": another_module,
    "another VAE, such as `AutoencoderTiny`": tiny_decoder,
    "trained weights, except LoRA on attention and feed-forward projections": trained,
}


def test_the_page_names_the_models_that_run_through_their_modules():
    assert {row[0] for row in ROWS if len(row) == 2 and "own modules" in row[1]} == set(OWN_MODULES)


@pytest.mark.parametrize("name", OWN_MODULES)
def test_models_that_the_engine_does_not_know_run_through_their_modules(name):
    pipe = tiny_sd()
    OWN_MODULES[name](pipe)
    sampler = accelerate(pipe, num_inference_steps=1, guidance_scale=1.0)
    prompt = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sampler(prompt, generator=torch.Generator().manual_seed(0)).sum().backward()
    assert prompt.grad.norm() > 0 and "runs through its own modules" in sampler.plan.note


def test_adapters_of_parameters_have_a_gradient_but_no_memory_plan():
    pipe, config = tiny_sd(), pytest.importorskip("peft").LoraConfig
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(config(r=2, target_modules=[], target_parameters=["attn1.to_q.weight"]))
    sampler = accelerate(pipe, num_inference_steps=1, guidance_scale=1.0)
    prompt = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sampler(prompt, generator=torch.Generator().manual_seed(0)).sum().backward()
    assert prompt.grad.norm() > 0
    with pytest.raises(ValueError, match=r"^memory: wanted None, because a plan is counted on tensors without values"):
        _ = sampler.plan


def test_a_vae_of_more_than_colours_is_refused():
    pipe = tiny_sd()
    pipe.vae.register_to_config(out_channels=6)
    with pytest.raises(ValueError, match=r"vae.config.out_channels: wanted 3, the colours of a picture, got 6"):
        accelerate(pipe)


def test_a_vae_of_videos_is_refused():
    pipe = tiny_sd()
    pipe.vae = diffusers.AutoencoderKLTemporalDecoder(block_out_channels=(32,))
    with pytest.raises(TypeError, match="vae: wanted a diffusers AutoencoderKL, got AutoencoderKLTemporalDecoder"):
        accelerate(pipe)


def test_inpainting_weights_in_a_plain_pipeline_are_refused():
    pipe = tiny_sd()
    pipe.unet = tiny_unet(16, in_channels=9)
    with pytest.raises(ValueError, match=r"unet: wanted 4 channels in and out.*got 9 in and 4 out"):
        accelerate(pipe)
