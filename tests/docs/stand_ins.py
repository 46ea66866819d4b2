"""Folders in the format of published models, created with random weights, which stand in for hub ids in the pages."""

from collections.abc import Callable
from pathlib import Path

from diffusers import EulerAncestralDiscreteScheduler, PNDMScheduler
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    ResNetConfig,
    ResNetForImageClassification,
    YolosConfig,
    YolosForObjectDetection,
)

from tests.models.saved_classifiers import AS_THEY_ARE, RESNET, STEPS, edit_json
from tests.tiny import LABELS, WORDS, seeded, text_config, tiny_sd, tiny_sdxl, tiny_tokenizer

_LABELS = (*LABELS, "golden retriever", "tiger shark, Galeocerdo cuvieri")
_CANDIDATES = ("dog", "tennis", "ball", "grass", "owner")
"""Words of the pages that the published tokenizer has as one token each."""
_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def _stable_diffusion(folder: Path) -> None:
    """Save Stable Diffusion 1.x as it is published: with a scheduler that the sampler does not differentiate."""
    pipe, tokenizer = tiny_sd(), tiny_tokenizer((*WORDS, *_CANDIDATES))
    encoder = seeded(lambda: CLIPTextModel(text_config(tokenizer, 16)).eval())
    pipe.register_modules(tokenizer=tokenizer, text_encoder=encoder)
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    pipe.save_pretrained(folder)


def _turbo(folder: Path) -> None:
    pipe = tiny_sdxl()
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    pipe.save_pretrained(folder)


def _classifier(folder: Path) -> None:
    names = {"id2label": dict(enumerate(_LABELS)), "label2id": {label: i for i, label in enumerate(_LABELS)}}
    seeded(lambda: ResNetForImageClassification(ResNetConfig(**RESNET, **names))).save_pretrained(folder)
    edit_json(folder / STEPS, **AS_THEY_ARE)


def _clip(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    vision = {**_SMALL, "image_size": 16, "patch_size": 8, "projection_dim": 16}
    text = text_config(tokenizer, 16).to_dict()
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    seeded(lambda: CLIPModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _detector(folder: Path) -> None:
    labels = ("N/A", "boat", "N/A", "fish")
    config = YolosConfig(
        **_SMALL,
        image_size=[32, 48],
        patch_size=16,
        num_detection_tokens=5,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    seeded(lambda: YolosForObjectDetection(config)).save_pretrained(folder)


STAND_INS: dict[str, Callable[[Path], None]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _stable_diffusion,
    "stabilityai/sdxl-turbo": _turbo,
    "timm/resnet50.a1_in1k": _classifier,
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": _clip,
    "hustvl/yolos-tiny": _detector,
}
"""Every hub id of the pages, and the function that saves its stand-in into a folder."""


def with_stand_ins(text: str, folder: Path) -> str:
    """Return code or a command with a saved folder in place of every hub id.

    Args:
        text: code or a command.
        folder: folder in which the stand-ins are saved; those that are there are used again.
    """
    for name, save in STAND_INS.items():
        if name in text:
            place = folder / name.replace("/", "--")
            if not place.exists():
                save(place)
            text = text.replace(name, place.as_posix())
    return text
