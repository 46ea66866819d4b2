"""The last stages: every model to float16 safetensors in its public format, and in place of those that ship."""

import logging
import shutil
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPSegForImageSegmentation, GitForCausalLM, PreTrainedModel
from transformers import ResNetForImageClassification as ResNet

from diffexplain_fast.recipe.figures import read_pipeline
from diffexplain_fast.storage import check_manifest, read_json, write_json_atomic, write_manifest
from diffexplain_fast.tinyworld.low_rank import FILE
from diffexplain_fast.tinyworld.store import WEIGHTS

log = logging.getLogger(__name__)
LIMIT = 40_000_000
"""Most bytes that the package may ship."""


def package(build: Path, target: Path) -> None:
    """Write every model of a build folder as it ships.

    Args:
        build: the build folder.
        target: folder to write.

    Raises:
        ValueError: when all files together exceed 40 MB.
    """
    pipeline = read_pipeline(build)
    pipeline.to(dtype=torch.float16).save_pretrained(target / "pipeline", safe_serialization=True)
    _copy(CLIPModel, build / "clip", target / "clip")
    _copy(CLIPSegForImageSegmentation, build / "segmenter", target / "segmenter")
    _copy(GitForCausalLM, build / "captioner", target / "captioner")
    _copy(ResNet, build / "probe", target / "probe")
    for folder in sorted((build / "classifiers").iterdir()):
        _copy(ResNet, folder, target / "classifiers" / folder.name)
    (target / "lcm").mkdir()
    for name in (FILE, "scheduler_config.json"):
        shutil.copyfile(build / "lcm" / name, target / "lcm" / name)
    for path in target.rglob("config.json"):
        # diffusers writes where a model was read from, which is a folder of the machine that built it.
        write_json_atomic(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > LIMIT:
        raise ValueError(f"weights of the tiny world: wanted at most {LIMIT} bytes, got {size}")
    write_manifest(target)
    log.info("packaged %.1f MB", size / 1e6)


def ship(packaged: Path) -> None:
    """Replace the shipped weights by a packaged folder.

    Raises:
        CorruptFileError: a file of the folder does not match its manifest.
    """
    check_manifest(packaged)
    target = WEIGHTS.with_name("weights.partial")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(packaged, target)
    shutil.rmtree(WEIGHTS, ignore_errors=True)
    target.rename(WEIGHTS)


def _copy(kind: type[PreTrainedModel], source: Path, target: Path) -> None:
    """Save a model in float16, and copy what lies beside it: preprocessing, tokenizer, truth, units."""
    kind.from_pretrained(source).to(torch.float16).save_pretrained(target)
    for path in source.iterdir():
        if path.suffix in (".json", ".safetensors") and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)
