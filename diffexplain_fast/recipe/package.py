"""The last stage: every model to float16 safetensors in its public format, with a manifest of sha256."""

import logging
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTextModel, PreTrainedModel
from transformers import ResNetForImageClassification as ResNet

from diffexplain_fast.recipe.tokenizer import load_tokenizer
from diffexplain_fast.recipe.unet import build_scheduler
from diffexplain_fast.storage import write_manifest
from diffexplain_fast.tinyworld.store import WEIGHTS

log = logging.getLogger(__name__)
_LIMIT = 40_000_000
"""Most bytes that the package may ship."""


def package(build: Path) -> None:
    """Replace the shipped weights by the models of a build folder.

    Raises:
        ValueError: when all files together exceed 40 MB.
    """
    target = WEIGHTS.with_name("weights.partial")
    shutil.rmtree(target, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(build / "decoder"),
        text_encoder=CLIPTextModel.from_pretrained(build / "text_encoder"),
        tokenizer=load_tokenizer(build / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(build / "unet"),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(target / "pipeline", safe_serialization=True)
    _copy(CLIPModel, build / "clip", target / "clip")
    _copy(CLIPSegForImageSegmentation, build / "segmenter", target / "segmenter")
    _copy(ResNet, build / "probe", target / "probe")
    for folder in sorted((build / "classifiers").iterdir()):
        _copy(ResNet, folder, target / "classifiers" / folder.name)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > _LIMIT:
        raise ValueError(f"shipped weights: wanted at most {_LIMIT} bytes, got {size}")
    write_manifest(target)
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    target.rename(WEIGHTS)
    log.info("packaged %.1f MB", size / 1e6)


def _copy(kind: type[PreTrainedModel], source: Path, target: Path) -> None:
    """Save a model in float16, and copy what lies beside it: preprocessing, tokenizer, truth."""
    kind.from_pretrained(source).to(torch.float16).save_pretrained(target)
    for path in source.iterdir():
        if path.suffix == ".json" and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)
