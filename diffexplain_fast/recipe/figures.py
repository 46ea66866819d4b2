"""The figures of every model in a folder: a build folder of the recipe, or a folder of weights as they ship."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTextModel, GitForCausalLM

from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe import checks
from diffexplain_fast.recipe.checks import Figures
from diffexplain_fast.recipe.data import Scenes, render_scenes
from diffexplain_fast.recipe.segmenter import false_positives, mean_iou
from diffexplain_fast.recipe.tokenizer import load_tokenizer
from diffexplain_fast.recipe.unet import build_scheduler
from diffexplain_fast.tinyworld.grammar import draw_world, full_caption
from diffexplain_fast.tinyworld.low_rank import add_four_steps
from diffexplain_fast.tinyworld.store import read_probe
from diffexplain_fast.tinyworld.words import WORLD, caption, draw_attributes

STEPS, GUIDANCE_SCALE = 8, 4.0
LCM_STEPS = 4
_NAMELESS = ("pattern", "frame")


def part(folder: Path, name: str) -> Path:
    """Return where a model lies: beside the others in a build folder, in the pipeline's where weights are packaged."""
    if (folder / "pipeline").is_dir() and name in ("decoder", "text_encoder", "tokenizer", "unet"):
        return folder / "pipeline" / ("vae" if name == "decoder" else name)
    return folder / name


def read_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Return the diffusers pipeline of a folder, in float32."""
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(part(folder, "decoder"), torch_dtype=torch.float32),
        text_encoder=CLIPTextModel.from_pretrained(part(folder, "text_encoder"), dtype=torch.float32),
        tokenizer=load_tokenizer(part(folder, "tokenizer")),
        unet=UNet2DConditionModel.from_pretrained(part(folder, "unet"), torch_dtype=torch.float32),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def lcm_pipeline(folder: Path) -> Pipeline:
    """Return the pipeline of a folder with its four-step addition merged in, and LCM's scheduler."""
    pipeline = read_pipeline(folder)
    add_four_steps(pipeline, folder / "lcm")
    return load_pipeline(pipeline)


def is_new(folder: Path) -> bool:
    """Whether a folder holds the recipe's world: its probe names sizes; that of the world shipped before does not."""
    return "size" in read_probe(folder / "probe")(torch.zeros(1, 3, 64, 64))


def scenes_of(folder: Path, seeds: range) -> Scenes:
    """Render scenes of the world that a folder's models know."""
    return render_scenes(seeds, draw_world if is_new(folder) else draw_attributes)


def _names(folder: Path) -> list[str]:
    return list(read_probe(folder / "probe")(torch.zeros(1, 3, 64, 64)))


def _probe(folder: Path, scenes: Scenes) -> Figures:
    return checks.probe_figures(read_probe(folder / "probe"), scenes)


def _vae(folder: Path, scenes: Scenes, name: str = "decoder") -> Figures:
    vae = AutoencoderKL.from_pretrained(part(folder, name), torch_dtype=torch.float32).eval()
    return checks.vae_figures(vae, read_probe(folder / "probe"), scenes)


def _clip(folder: Path, scenes: Scenes) -> Figures:
    pair = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32).eval()
    names = [name for name in _names(folder) if name not in _NAMELESS]
    tokenizer = load_tokenizer(folder / "clip")
    say = full_caption if is_new(folder) else caption
    found = checks.clip_figures(pair, tokenizer, scenes, names)
    return found | {"retrieval among 64": checks.retrieval(pair, tokenizer, scenes, say)}


def _segmenter(folder: Path, scenes: Scenes) -> Figures:
    model = CLIPSegForImageSegmentation.from_pretrained(folder / "segmenter", dtype=torch.float32).eval()
    tokenizer = load_tokenizer(folder / "segmenter")
    overlap, found = mean_iou(model, tokenizer, scenes), false_positives(model, tokenizer, scenes)
    return {f"IoU {k}": v for k, v in overlap.items()} | {f"false {k}": v for k, v in found.items()}


def _captioner(folder: Path, scenes: Scenes) -> Figures:
    model = GitForCausalLM.from_pretrained(folder / "captioner", dtype=torch.float32).eval()
    return checks.caption_figures(model, load_tokenizer(folder / "captioner"), scenes)


def _generated(folder: Path, pipeline: Pipeline, scenes: Scenes, steps: int, guidance_scale: float) -> Figures:
    names = _names(folder)
    wanted = checks.drawn_scenes(min(400, len(scenes.codes)), [name for name in WORLD if name in names])
    new = is_new(folder)
    return checks.generated_figures(
        pipeline,
        read_probe(folder / "probe"),
        wanted,
        steps=steps,
        guidance_scale=guidance_scale,
        say=(lambda scene: full_caption(scene, nameless=True)) if new else caption,
    )


def _unet(folder: Path, scenes: Scenes) -> Figures:
    return _generated(folder, load_pipeline(read_pipeline(folder)), scenes, STEPS, GUIDANCE_SCALE)


def _lcm(folder: Path, scenes: Scenes) -> Figures:
    return _generated(folder, lcm_pipeline(folder), scenes, LCM_STEPS, 1.0)


FIGURES: dict[str, Callable[[Path, Scenes], Figures]] = {
    "probe": _probe,
    "vae": lambda folder, scenes: _vae(folder, scenes, "vae"),
    "decoder": _vae,
    "clip": _clip,
    "segmenter": _segmenter,
    "captioner": _captioner,
    "unet": _unet,
    "lcm": _lcm,
}
"""Name of a stage to what measures its model on held-out scenes; the figures of a folder's models, in float32."""
