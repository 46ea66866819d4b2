"""The stages of the recipe: each reads what earlier ones left in the build folder and adds its own model."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTextModel, ViTImageProcessor

from diffexplain_fast.recipe import clip as clip_room
from diffexplain_fast.recipe import probes as probe_room
from diffexplain_fast.recipe import segmenter as segmenter_room
from diffexplain_fast.recipe import unet as unet_room
from diffexplain_fast.recipe import vae as vae_room
from diffexplain_fast.recipe.classifiers import SHIPPED, train_classifier
from diffexplain_fast.recipe.data import TRAIN_SEEDS, Scenes, cached_scenes
from diffexplain_fast.recipe.package import package
from diffexplain_fast.recipe.tokenizer import build_tokenizer, load_tokenizer
from diffexplain_fast.recipe.training import fit
from diffexplain_fast.recipe.truth import measure_truth
from diffexplain_fast.storage import load_tensors, save_tensors_atomic, write_json_atomic

log = logging.getLogger(__name__)


def _train_scenes(build: Path) -> Scenes:
    return cached_scenes(build, TRAIN_SEEDS)


def make_tokenizer(build: Path, device: torch.device) -> None:
    """Write ``tokenizer``."""
    build_tokenizer().save_pretrained(build / "tokenizer")


def make_vae(build: Path, device: torch.device) -> None:
    """Train and write ``vae`` and the scaled latents of all training scenes."""
    scenes = _train_scenes(build)
    torch.manual_seed(1)
    vae = vae_room.build_vae().to(device)
    fit("vae", vae, vae_room.vae_loss(vae, scenes, vae_room.PLAN.batch), vae_room.PLAN, build, seed=1)
    latents, factor = vae_room.encode_scenes(vae, scenes)
    vae.register_to_config(scaling_factor=factor)
    save_tensors_atomic(build / "latents.safetensors", {"latents": latents})
    vae.save_pretrained(build / "vae")


def make_decoder(build: Path, device: torch.device) -> None:
    """Train the decoder on, while the latents stay what the denoiser learns, and write ``decoder`` (the whole VAE)."""
    latents = load_tensors(build / "latents.safetensors")["latents"]
    vae = AutoencoderKL.from_pretrained(build / "vae").to(device).requires_grad_(False)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    plan = vae_room.DECODER_PLAN
    fit("decoder", vae, vae_room.decoder_loss(vae, _train_scenes(build), latents, plan.batch), plan, build, seed=6)
    vae.save_pretrained(build / "decoder")


def make_clip(build: Path, device: torch.device) -> None:
    """Train and write ``clip`` (both towers, with its preprocessing) and ``text_encoder`` (the text tower alone)."""
    tokenizer = load_tokenizer(build / "tokenizer")
    torch.manual_seed(2)
    pair = clip_room.build_clip(tokenizer).to(device)
    loss = clip_room.clip_loss(pair, tokenizer, _train_scenes(build), clip_room.PLAN.batch)
    fit("clip", pair, loss, clip_room.PLAN, build, seed=2)
    clip_room.silence_unused_tokens(pair, tokenizer)
    pair.save_pretrained(build / "clip")
    clip_room.build_image_processor().save_pretrained(build / "clip")
    tokenizer.save_pretrained(build / "clip")
    text = CLIPTextModel(pair.config.text_config)
    text.load_state_dict(pair.text_model.state_dict())
    text.save_pretrained(build / "text_encoder")


def make_unet(build: Path, device: torch.device) -> None:
    """Train and write ``unet``."""
    tokenizer = load_tokenizer(build / "tokenizer")
    text = CLIPTextModel.from_pretrained(build / "text_encoder").to(device).eval().requires_grad_(False)
    latents = load_tensors(build / "latents.safetensors")["latents"]
    torch.manual_seed(3)
    unet = unet_room.build_unet().to(device)
    loss = unet_room.unet_loss(unet, text, tokenizer, _train_scenes(build), latents, unet_room.PLAN.batch)
    fit("unet", unet, loss, unet_room.PLAN, build, seed=3)
    unet.save_pretrained(build / "unet")


def make_segmenter(build: Path, device: torch.device) -> None:
    """Train and write ``segmenter``."""
    tokenizer = load_tokenizer(build / "tokenizer")
    torch.manual_seed(4)
    model = segmenter_room.build_segmenter(CLIPModel.from_pretrained(build / "clip")).to(device)
    loss = segmenter_room.segmenter_loss(model, tokenizer, _train_scenes(build), segmenter_room.PLAN.batch)
    fit("segmenter", model, loss, segmenter_room.PLAN, build, seed=4)
    segmenter_room.fold_standardisation(model, tokenizer)
    model.save_pretrained(build / "segmenter")
    clip_room.build_image_processor().save_pretrained(build / "segmenter")
    tokenizer.save_pretrained(build / "segmenter")


def make_probe(build: Path, device: torch.device) -> None:
    """Train and write ``probe``."""
    torch.manual_seed(5)
    probe = probe_room.build_probe().to(device)
    fit(
        "probe",
        probe,
        probe_room.probe_loss(probe, _train_scenes(build), probe_room.PLAN.batch),
        probe_room.PLAN,
        build,
    )
    probe.save_pretrained(build / "probe")
    pixel_processor().save_pretrained(build / "probe")


def make_classifiers(build: Path, device: torch.device) -> None:
    """Train and write every shipped classifier with its truth."""
    for seed, (name, shortcuts) in enumerate(SHIPPED.items()):
        folder = build / "classifiers.partial" / name
        if (folder / "truth.json").exists():
            continue
        model = train_classifier(shortcuts, seed, device, build, f"classifier-{name}")
        model.save_pretrained(folder)
        pixel_processor().save_pretrained(folder)
        write_json_atomic(folder / "truth.json", measure_truth(model, device))
    (build / "classifiers.partial").rename(build / "classifiers")


def make_package(build: Path, device: torch.device) -> None:
    """Write the shipped weights."""
    package(build)
    (build / "package").mkdir()


def pixel_processor() -> ViTImageProcessor:
    """Return the preprocessing of models that take 64-pixel pictures in [0, 1] as they are."""
    return ViTImageProcessor(do_resize=True, size={"height": 64, "width": 64}, do_normalize=False)


STAGES: dict[str, Callable[[Path, torch.device], None]] = {
    "tokenizer": make_tokenizer,
    "vae": make_vae,
    "decoder": make_decoder,
    "clip": make_clip,
    "probe": make_probe,
    "classifiers": make_classifiers,
    "segmenter": make_segmenter,
    "unet": make_unet,
    "package": make_package,
}
"""Stage name to what runs; a stage is done when the folder of its name exists."""


def run(names: list[str], build: Path, device: torch.device) -> None:
    """Run stages in order, leaving out those whose folder is there."""
    build.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (build / name).exists():
            log.info("%s: done before", name)
            continue
        log.info("%s: started", name)
        STAGES[name](build, device)
        log.info("%s: done", name)
