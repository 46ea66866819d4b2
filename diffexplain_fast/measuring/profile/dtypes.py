"""Models in the dtype to be profiled: loaded in it, or converted on a copy, so that nobody's own objects change."""

import copy
from typing import Any

import torch
from torch import nn

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Dtypes of an iteration, by the name one asks for them with."""


def parse_dtype(dtype: Any) -> torch.dtype | None:
    """Return a dtype of ``DTYPES``, None for None.

    Args:
        dtype: its name, the dtype itself, or None.

    Raises:
        TypeError: another kind.
        ValueError: another dtype.
    """
    if dtype is None:
        return None
    if not isinstance(dtype, str | torch.dtype):
        raise wrong_type("dtype", "a name, a torch.dtype or None", dtype)
    found = DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise wrong_value("dtype", ", ".join(DTYPES), dtype)
    return found


def pipeline_in(source: Any, dtype: torch.dtype | None, device: Any) -> Pipeline:
    """Return a pipeline in a dtype; refuses what ``load_pipeline`` refuses.

    An object of another dtype is copied with all its weights. None: that of an object, float32 for what is loaded.
    """
    if dtype is None:
        return load_pipeline(source, device=device)
    pipeline = load_pipeline(source, device=device, dtype=dtype)
    if not _are(dtype, pipeline.unet, pipeline.vae, *pipeline.text_encoders):
        pipeline = copy.deepcopy(pipeline)
        for module in (pipeline.unet, pipeline.vae, *pipeline.text_encoders):
            module.to(dtype)
    return pipeline


def classifier_in(source: Any, dtype: torch.dtype | None, device: Any) -> Classifier:
    """Return a classifier in a dtype; refuses what ``Classifier.from_pretrained`` refuses.

    A classifier that is a module of another dtype is copied; one that is a function has no dtype and stays as it is.
    None: the dtype of a classifier, float32 for what is loaded.
    """
    if not isinstance(source, Classifier):
        return Classifier.from_pretrained(source, device=device, dtype=dtype or torch.float32)
    model = source.model
    if dtype is None or not isinstance(model, nn.Module) or _are(dtype, model):
        return source
    model = copy.deepcopy(model).to(dtype)
    return Classifier(
        model, source.preprocess, source.labels, output=source.output, name=source.name, truth=source.truth
    )


def _are(dtype: torch.dtype, *modules: nn.Module) -> bool:
    weights = [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
    return all(weight.dtype == dtype for weight in weights if weight.is_floating_point())
