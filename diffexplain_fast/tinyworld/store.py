"""The trained models that ship with the package: where they lie, checked against the manifest before they are read."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffexplain_fast.errors import describe, unknown_name
from diffexplain_fast.quiet import without_bars
from diffexplain_fast.records import JsonObject
from diffexplain_fast.storage import check_manifest, read_json
from diffexplain_fast.tinyworld.words import values_of

if TYPE_CHECKING:
    from transformers import (
        CLIPModel,
        CLIPSegForImageSegmentation,
        CLIPTokenizer,
        GitForCausalLM,
        ResNetForImageClassification,
    )

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped models, each in its public format, with ``MANIFEST.json``."""

FOUR_STEPS = "tinyworld-lcm"
PIPELINES = ("tinyworld", FOUR_STEPS)
"""Names of the pipeline that ships; the second is the same with its low-rank addition for four steps."""

Probe = Callable[[torch.Tensor], dict[str, torch.Tensor]]


def _there(name: str) -> Path:
    folder = _checked(WEIGHTS) / name
    if not folder.is_dir():
        raise FileNotFoundError(describe(name, f"a model in {folder}", "none"))
    return folder


@functools.cache
def _checked(folder: Path) -> Path:
    check_manifest(folder)
    return folder


def pipeline_folder() -> Path:
    """Return the folder of the Stable Diffusion pipeline of the tiny world.

    Raises:
        CorruptFileError: when a shipped file does not match its recorded sha256.
    """
    return _checked(WEIGHTS) / "pipeline"


def lcm_folder() -> Path:
    """Return the folder of the low-rank addition to the pipeline's denoiser for four steps, and of its scheduler.

    Raises:
        FileNotFoundError: the weights that ship have none.
    """
    return _there("lcm")


def classifier_names() -> tuple[str, ...]:
    """Return the names of the shipped classifiers."""
    return tuple(sorted(folder.name for folder in (_checked(WEIGHTS) / "classifiers").iterdir()))


def classifier_folder(name: str) -> Path:
    """Return the folder of a shipped classifier, in the format of transformers.

    Args:
        name: one of ``classifier_names()``.

    Raises:
        UnknownNameError: for another name.
        CorruptFileError: when a shipped file does not match its recorded sha256.
    """
    if name not in classifier_names():
        raise unknown_name("classifier", name, classifier_names())
    return WEIGHTS / "classifiers" / name


def read_truth(name: str) -> JsonObject:
    """Return the measured truth of a shipped classifier: the causal effect of every attribute on every class logit.

    Args:
        name: one of ``classifier_names()``.
    """
    truth: JsonObject = read_json(classifier_folder(name) / "truth.json")
    return truth


def load_probe() -> Probe:
    """Load the judge of pictures, which learnt only from rendered scenes.

    Returns:
        Pixels [B, 3, 64, 64] in [0, 1] to one tensor of logits [B, values] per attribute, numbered as in ``values_of``.
    """
    return read_probe(_checked(WEIGHTS) / "probe")


def read_probe(folder: Path) -> Probe:
    """Load a probe of any folder; see ``load_probe``. Its labels, such as "object:boat", say what it names."""
    model = _read_probe(folder)
    heads = Counter(label.partition(":")[0] for _, label in sorted(model.config.id2label.items()))

    def probe(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return split_logits(model(pixel_values=pixels).logits, heads)

    return probe


def probe_model() -> "ResNetForImageClassification":
    """Load the shipped probe as a module; its labels, such as "object:boat", say what each logit is."""
    return _read_probe(_checked(WEIGHTS) / "probe")


def _read_probe(folder: Path) -> "ResNetForImageClassification":
    from transformers import AutoModelForImageClassification

    with _without_bars():
        return AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()


def _without_bars() -> AbstractContextManager[None]:
    """Switch off the progress bars of transformers."""
    from transformers.utils import logging

    return without_bars(logging)


def split_logits(logits: torch.Tensor, heads: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Cut a probe's logits [B, labels] into one [B, values] tensor per attribute, whose numbers of values are given."""
    return dict(zip(heads, logits.split(list(heads.values()), dim=1), strict=True))


def name_attributes(probe: Probe, pixels: torch.Tensor) -> list[dict[str, str]]:
    """Return what the probe sees in each picture.

    Args:
        probe: see ``load_probe``.
        pixels: [B, 3, 64, 64] in [0, 1].

    Returns:
        For each picture attribute name to value, by words.
    """
    found = {name: logits.argmax(1).tolist() for name, logits in probe(pixels).items()}
    return [{name: values_of(name)[codes[i]] for name, codes in found.items()} for i in range(len(pixels))]


def load_clip() -> "tuple[CLIPModel, CLIPTokenizer]":
    """Load the CLIP pair and its tokenizer; the image tower takes pixels scaled to [-1, 1]."""
    from transformers import CLIPModel, CLIPTokenizer

    folder = _checked(WEIGHTS) / "clip"
    with _without_bars():
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    return model, CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def load_segmenter() -> "tuple[CLIPSegForImageSegmentation, CLIPTokenizer]":
    """Load the segmenter and its tokenizer; it takes pixels scaled to [-1, 1] and texts such as "a boat" or "snow"."""
    from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

    folder = _checked(WEIGHTS) / "segmenter"
    with _without_bars():
        model = CLIPSegForImageSegmentation.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    return model, CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def has_captioner() -> bool:
    """Return whether a captioner ships: the world that shipped first has none."""
    return (_checked(WEIGHTS) / "captioner").is_dir()


def load_captioner() -> "tuple[GitForCausalLM, CLIPTokenizer]":
    """Load the captioner, which writes full captions of pictures scaled to [-1, 1], and its tokenizer.

    Raises:
        FileNotFoundError: the weights that ship have no captioner.
    """
    from transformers import CLIPTokenizer, GitForCausalLM

    folder = _there("captioner")
    with _without_bars():
        model = GitForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    return model, CLIPTokenizer.from_pretrained(folder, local_files_only=True)
