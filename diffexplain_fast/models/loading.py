"""The only place that turns a name into an adapter of the library of a published classifier or pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import torch

from diffexplain_fast.environment import check_device
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.parts import Parts
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.text_to_image import check_text_to_image


class _Reading(TypedDict):
    revision: str | None
    local_files_only: bool


def load_parts(source: str | Path, *, revision: str | None, local_files_only: bool) -> Parts:
    """Load a classifier on the CPU in float32; see ``Classifier.from_pretrained``."""
    if not isinstance(source, str | Path):
        raise wrong_type("classifier", "a name, a hub id or a folder", source)
    options = _Reading(revision=revision, local_files_only=local_files_only)
    family, _, name = str(source).partition("/")
    if isinstance(source, str) and family == "tinyworld":
        from diffexplain_fast.models.transformers_classifiers import load_transformers
        from diffexplain_fast.tinyworld.store import classifier_folder, read_truth

        loaded = load_transformers(classifier_folder(name), **options)
        return loaded._replace(name=str(source), truth=read_truth(name))
    if isinstance(source, str) and family == "timm":
        from diffexplain_fast.models.timm_models import load_timm

        return load_timm(name, **options)
    if isinstance(source, str) and family == "torchvision":
        from diffexplain_fast.models.torchvision_models import load_torchvision

        return load_torchvision(name, **options)
    from diffexplain_fast.models.transformers_classifiers import load_transformers

    return load_transformers(source, **options)


@torch.inference_mode(False)  # weights that are loaded in inference mode can never have a gradient
def load_pipeline(
    source: object,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    call_options: Mapping[str, object] | None = None,
) -> Pipeline:
    """Adapt a Stable Diffusion 1.x, 2.x or XL pipeline; it reads weights only from safetensors files.

    Args:
        source: diffusers pipeline object (used without a copy), hub id, local folder, "tinyworld", or "tinyworld-lcm"
            for the same world in four steps without guidance.
        dtype: dtype of the loaded weights.
        device: device of loaded weights, the CPU if None; a pipeline object must already be on it.
        revision: branch, tag or commit of a hub id.
        local_files_only: True to read a hub id only from the cache; a folder never needs the network.
        call_options: options of the pipeline's call that change the inputs of the denoiser; see ``Pipeline``.

    Returns:
        The pipeline, as ``Explainer`` and ``accelerate`` take it; ``encode_text`` gives prompt embeddings.

    Raises:
        TypeError: ``source`` is none of these.
        ValueError: the folder is not a pipeline (the message says what is missing), or a pipeline of another kind; a
            pipeline object that draws from more than text, or has another way to encode prompts; no such device.
        UnsafeFileError: a component has only pickled weights; nothing was read.
        CorruptFileError: a weight file is damaged.
    """
    if isinstance(source, Pipeline):
        if call_options:
            wanted = "None with a loaded Pipeline, which has its own options"
            raise wrong_value("call_options", wanted, sorted(call_options))
        return source
    check_device(device)
    # The adapters derive from Pipeline, and diffusers takes seconds to import.
    from diffexplain_fast.models.diffusers_folder import find_folder, open_pipeline
    from diffexplain_fast.models.diffusers_sd import StableDiffusion
    from diffexplain_fast.models.diffusers_sdxl import StableDiffusionXL
    from diffexplain_fast.tinyworld.low_rank import add_four_steps
    from diffexplain_fast.tinyworld.store import FOUR_STEPS, lcm_folder

    kinds: dict[str, type[Pipeline]] = {
        "StableDiffusionPipeline": StableDiffusion,
        "StableDiffusionXLPipeline": StableDiffusionXL,
    }
    if isinstance(source, str | Path):
        folder, name = find_folder(source, revision=revision, local_files_only=local_files_only)
        opened = open_pipeline(folder, {key: kind.components() for key, kind in kinds.items()}, dtype)
        if source == FOUR_STEPS:
            add_four_steps(opened, lcm_folder())
        source = opened if device is None else opened.to(device)
    else:
        origin = getattr(source, "name_or_path", None) or type(source).__name__
        name = Path(origin).name if Path(origin).is_dir() else str(origin)
    base = next((base for base in type(source).__mro__ if base.__name__ in kinds), None)
    if hasattr(source, "unet"):
        check_text_to_image(source, "pipeline")
    if base is None:
        raise wrong_type("pipeline", f"{' or '.join(kinds)}, a hub id or a folder", source)
    if getattr(type(source), "encode_prompt", None) is not getattr(base, "encode_prompt", None):
        other = f"{type(source).__name__}, which has an encode_prompt of its own"
        usual = f"a pipeline that encodes its prompts as {base.__name__} does ({base.__name__}.from_pipe(pipe))"
        raise wrong_value("pipeline", usual, other)
    adapter = kinds[base.__name__](source, name, call_options)
    if device is not None:
        asked, present = torch.device(device), adapter.device
        if asked.type != present.type or asked.index not in (None, present.index):
            raise wrong_value("device", f"the device of the pipeline object, {present}", device)
    return adapter
