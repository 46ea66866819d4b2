"""The stages of the recipe: each reads what earlier ones left in the build folder and adds its own model."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, GitProcessor, ViTImageProcessor

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe import captioner as captioner_room
from diffexplain_fast.recipe import clip as clip_room
from diffexplain_fast.recipe import lcm as lcm_room
from diffexplain_fast.recipe import probes as probe_room
from diffexplain_fast.recipe import segmenter as segmenter_room
from diffexplain_fast.recipe import unet as unet_room
from diffexplain_fast.recipe import vae as vae_room
from diffexplain_fast.recipe.building import Run
from diffexplain_fast.recipe.classifiers import PLAN as CLASSIFIER_PLAN
from diffexplain_fast.recipe.classifiers import SHIPPED, train_classifier
from diffexplain_fast.recipe.figures import FIGURES
from diffexplain_fast.recipe.package import package, ship
from diffexplain_fast.recipe.responses import FILE as UNITS_FILE
from diffexplain_fast.recipe.responses import SEEDS as UNIT_SEEDS
from diffexplain_fast.recipe.responses import measure_units, write_units
from diffexplain_fast.recipe.tokenizer import build_tokenizer, load_tokenizer
from diffexplain_fast.recipe.training import Loss, Plan, fit
from diffexplain_fast.recipe.truth import SEEDS, measure_truth
from diffexplain_fast.storage import load_tensors, save_tensors_atomic, write_json_atomic
from diffexplain_fast.targets.outputs import SOFTMAX
from diffexplain_fast.tinyworld.grammar import draw_world
from diffexplain_fast.tinyworld.words import OBJECTS

log = logging.getLogger(__name__)


def _fit(run: Run, name: str, model: torch.nn.Module, loss: Loss, plan: Plan, seed: int) -> None:
    fit(name, model, loss, run.plan(plan), run.build, seed=seed, later=run.later)


def make_tokenizer(run: Run) -> None:
    """Write ``tokenizer``."""
    run.finish("tokenizer", build_tokenizer().save_pretrained)


def make_probe(run: Run) -> None:
    """Train and write ``probe``, on scenes of its own: the judge shares nothing with what it judges."""
    torch.manual_seed(5)
    probe = probe_room.build_probe().to(run.device)
    loss = probe_room.probe_loss(probe, run.probe_scenes(), probe_room.PLAN.batch)
    _fit(run, "probe", probe, loss, probe_room.PLAN, 0)
    run.finish("probe", probe.save_pretrained, pixel_processor().save_pretrained)


def make_vae(run: Run) -> None:
    """Train and write ``vae`` and the scaled latents of all training scenes."""
    scenes = run.train_scenes()
    torch.manual_seed(1)
    vae = vae_room.build_vae().to(run.device)
    plan, details = vae_room.PLAN, vae_room.DETAILS_PLAN
    _fit(run, "vae", vae, vae_room.vae_loss(vae, scenes, plan.batch, weigh=False), plan, 1)
    _fit(run, "vae-details", vae, vae_room.vae_loss(vae, scenes, details.batch, weigh=True), details, 9)
    latents, factor = vae_room.encode_scenes(vae, scenes)
    vae.register_to_config(scaling_factor=factor)
    save_tensors_atomic(run.build / "latents.safetensors", {"latents": latents})
    run.finish("vae", vae.save_pretrained)


def make_decoder(run: Run) -> None:
    """Train the decoder on, while the latents stay what the denoiser learns, and write ``decoder`` (the whole VAE)."""
    latents = load_tensors(run.build / "latents.safetensors")["latents"]
    vae = AutoencoderKL.from_pretrained(run.build / "vae").to(run.device).requires_grad_(False)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    plan, again, scenes = vae_room.DECODER_PLAN, vae_room.AGAIN_PLAN, run.train_scenes()
    _fit(run, "decoder", vae, vae_room.decoder_loss(vae, scenes, latents, plan.batch), plan, 6)
    _fit(run, "decoder-again", vae, vae_room.decoder_loss(vae, scenes, latents, again.batch), again, 11)
    run.finish("decoder", vae.save_pretrained)


def make_clip(run: Run) -> None:
    """Train and write ``text_encoder`` (only the text tower) and ``clip`` (both towers, with their preprocessing)."""
    tokenizer = load_tokenizer(run.build / "tokenizer")
    torch.manual_seed(2)
    pair = clip_room.build_clip(tokenizer).to(run.device)
    model = clip_room.ReadPair(pair).to(run.device)
    loss = clip_room.clip_loss(model, tokenizer, run.train_scenes(), clip_room.PLAN.batch)
    _fit(run, "clip", model, loss, clip_room.PLAN, 2)
    clip_room.silence_unused_tokens(pair, tokenizer)
    text = CLIPTextModel(pair.config.text_config)
    text.load_state_dict(pair.text_model.state_dict())
    text.save_pretrained(run.build / "text_encoder")
    processor = clip_room.build_image_processor()
    run.finish("clip", pair.save_pretrained, processor.save_pretrained, tokenizer.save_pretrained)


def make_segmenter(run: Run) -> None:
    """Train and write ``segmenter``; its tokenizer does not know the made-up words."""
    tokenizer = build_tokenizer(nameless=False)
    torch.manual_seed(4)
    model = segmenter_room.build_segmenter(CLIPModel.from_pretrained(run.build / "clip")).to(run.device)
    loss = segmenter_room.segmenter_loss(model, tokenizer, run.train_scenes(), segmenter_room.PLAN.batch)
    _fit(run, "segmenter", model, loss, segmenter_room.PLAN, 4)
    segmenter_room.fold_standardisation(model, tokenizer)
    processor = clip_room.build_image_processor()
    run.finish("segmenter", model.save_pretrained, processor.save_pretrained, tokenizer.save_pretrained)


def make_captioner(run: Run) -> None:
    """Train and write ``captioner``; its tokenizer does not know the made-up words."""
    tokenizer = build_tokenizer(nameless=False)
    torch.manual_seed(7)
    model = captioner_room.build_captioner(tokenizer)
    captioner_room.start_from(model, CLIPModel.from_pretrained(run.build / "clip"))
    model.to(run.device)
    loss = captioner_room.captioner_loss(model, tokenizer, run.train_scenes(), captioner_room.PLAN.batch)
    _fit(run, "captioner", model, loss, captioner_room.PLAN, 7)
    processor = GitProcessor(clip_room.build_image_processor(), tokenizer)
    run.finish("captioner", model.save_pretrained, processor.save_pretrained)


def make_unet(run: Run) -> None:
    """Train and write ``unet``."""
    tokenizer = load_tokenizer(run.build / "tokenizer")
    text = CLIPTextModel.from_pretrained(run.build / "text_encoder").to(run.device).eval().requires_grad_(False)
    latents = load_tensors(run.build / "latents.safetensors")["latents"]
    torch.manual_seed(3)
    unet = unet_room.build_unet().to(run.device)
    loss = unet_room.unet_loss(unet, text, tokenizer, run.train_scenes(), latents, unet_room.PLAN.batch)
    _fit(run, "unet", unet, loss, unet_room.PLAN, 3)
    run.finish("unet", unet.save_pretrained)


def make_lcm(run: Run) -> None:
    """Distil and write ``lcm``: the low-rank addition to the denoiser for four steps, and its scheduler."""
    tokenizer = load_tokenizer(run.build / "tokenizer")
    text = CLIPTextModel.from_pretrained(run.build / "text_encoder").to(run.device).eval().requires_grad_(False)
    latents = load_tensors(run.build / "latents.safetensors")["latents"]
    teacher = UNet2DConditionModel.from_pretrained(run.build / "unet").to(run.device).eval().requires_grad_(False)
    torch.manual_seed(8)
    student = lcm_room.add_low_rank(UNet2DConditionModel.from_pretrained(run.build / "unet")).to(run.device)
    scenes, plan, own = run.train_scenes(), lcm_room.PLAN, lcm_room.OWN_PLAN
    given = student, teacher, text, tokenizer, scenes, latents
    _fit(run, "lcm", student, lcm_room.lcm_loss(*given, plan.batch, own=False), plan, 8)
    _fit(run, "lcm-own", student, lcm_room.lcm_loss(*given, own.batch, own=True), own, 10)
    usual = unet_room.build_scheduler().config
    scheduler = LCMScheduler.from_config(usual, original_inference_steps=lcm_room.GRID)
    run.finish("lcm", lambda folder: lcm_room.save_low_rank(student, folder), scheduler.save_pretrained)


def make_classifiers(run: Run) -> None:
    """Train and write every shipped classifier with its truth and what its channels respond to."""
    for seed, (name, shortcuts) in enumerate(SHIPPED.items()):
        folder = run.build / "classifiers.partial" / name
        if (folder / "truth.json").exists():
            continue
        plan = run.plan(CLASSIFIER_PLAN)
        scenes = {} if run.most_scenes is None else {"count": run.most_scenes}
        model = train_classifier(
            shortcuts, seed, run.device, run.build, f"classifier-{name}", draw=draw_world, plan=plan, **scenes
        )
        model.save_pretrained(folder)
        pixel_processor().save_pretrained(folder)
        classifier = Classifier(model, labels=OBJECTS, output=SOFTMAX)
        write_units(folder / UNITS_FILE, measure_units(classifier, UNIT_SEEDS[: run.most_scenes]))
        write_json_atomic(folder / "truth.json", measure_truth(classifier, run.device, SEEDS[: run.most_scenes]))
    (run.build / "classifiers.partial").rename(run.build / "classifiers")


def make_package(run: Run) -> None:
    """Write ``package``: every model as it ships, in float16, with a manifest."""
    run.finish("package", lambda folder: package(run.build, folder))


def pixel_processor() -> ViTImageProcessor:
    """Return the preprocessing of models that take 64-pixel pictures in [0, 1] as they are."""
    return ViTImageProcessor(do_resize=True, size={"height": 64, "width": 64}, do_normalize=False)


class Stage(NamedTuple):
    """One stage of the recipe.

    Attributes:
        make: what runs.
        seconds: expected on two cores.
    """

    make: Callable[[Run], None]
    seconds: float


STAGES: dict[str, Stage] = {
    "tokenizer": Stage(make_tokenizer, 1),
    "probe": Stage(make_probe, 1200),
    "vae": Stage(make_vae, 3600),
    "decoder": Stage(make_decoder, 950),
    "clip": Stage(make_clip, 3500),
    "segmenter": Stage(make_segmenter, 1600),
    "captioner": Stage(make_captioner, 3400),
    "classifiers": Stage(make_classifiers, 400),
    "unet": Stage(make_unet, 6700),
    "lcm": Stage(make_lcm, 2700),
    "package": Stage(make_package, 10),
}
"""Stage name to what runs; a stage is done when the folder of its name exists."""


def run_stages(names: list[str], run: Run) -> None:
    """Run stages in order, leaving out those whose folder is there; the stage "ship" replaces the shipped weights."""
    run.build.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        if name == "ship":
            ship(run.build / "package")
            continue
        if (run.build / name).exists():
            log.info("%s: done before", name)
        else:
            log.info("%s: started", name)
            later = sum(STAGES[n].seconds for n in names[i + 1 :] if n in STAGES and not (run.build / n).exists())
            STAGES[name].make(run._replace(later=later))
            log.info("%s: done", name)
        if run.figures:
            check(name, run)


def check(name: str, run: Run) -> None:
    """Write what the model of a stage reaches on 400 held-out scenes to ``checks``, so that a bad one is seen at once.

    Figures that are there stay: a stage that was stopped while it was measured is measured by the next run.
    """
    path = run.build / "checks" / f"{name}.json"
    if name in FIGURES and not path.exists():
        figures = FIGURES[name](run.build, run.held_out_scenes())
        write_json_atomic(path, figures)
        log.info("%s: %s", name, ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
