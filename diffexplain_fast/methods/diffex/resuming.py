"""The folder from which an attribution goes on: it belongs to one classifier, its pictures and its settings."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.errors import describe
from diffexplain_fast.evidence.identity import answers_of, noise_of, pipeline_identity
from diffexplain_fast.evidence.shipped import shipped_with
from diffexplain_fast.methods.diffex.kinds import GUIDANCE, editors_record
from diffexplain_fast.methods.diffex.moving import moving_record
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import JsonObject
from diffexplain_fast.runs.shared_units import SharedUnits
from diffexplain_fast.storage import parse_json
from diffexplain_fast.targets import Target

_FORMAT, _ANSWERS = 6, "answers"
"""The format says too what a step of a given key is: it is raised where the same key comes to mean something else."""


class Asked(NamedTuple):
    """What is asked, and what pictures are drawn with."""

    pipeline: Pipeline
    classifier: Classifier
    target: Target


def steps_in(folder: str | Path, asked: Asked, pixels: Tensor, settings: JsonObject) -> SharedUnits:
    """Return the folder of an attribution's steps, new or of the same attribution.

    Args:
        folder: created if it does not exist.
        asked: pipeline, classifier and bound target.
        pixels: the pictures [B, 3, H, W].
        settings: whatever else decides what a step finds; JSON values.

    Raises:
        ValueError: the folder belongs to another attribution, or its classifier answers otherwise than before.
        CorruptFileError: a file of the folder cannot be read.
        StorageError: the folder cannot be written.
    """
    identity: JsonObject = {
        "format": _FORMAT,
        "target": asked.target.describe(),
        "classifier": asked.classifier.fingerprint(),
        "output": asked.classifier.output,
        "images": hashlib.sha256(pixels.cpu().numpy().tobytes()).hexdigest(),
        "editors": editors_record() | {"moving": moving_record()},
        "seen by": shipped_with(asked.pipeline).fingerprints(),
        **pipeline_identity(asked.pipeline, max(map(max, GUIDANCE.values())), noise=noise_of(asked.pipeline.scheduler)),
        **settings,
    }
    try:
        units = SharedUnits(folder, identity, ".step")
    except ValueError as error:
        raise ValueError(f"checkpoint, {error}") from error
    # A fingerprint does not cover all that a classifier computes.
    answers = answers_of(asked)
    units.complete([_ANSWERS], lambda _: json.dumps(answers.values).encode())
    if not answers.agree(parse_json(units.read(_ANSWERS), units.path(_ANSWERS))):
        got = "another: the classifier, its preprocess or the target answers the same pictures differently"
        raise ValueError(describe("checkpoint", f"an attribution of the same classifier in {folder}", got))
    return units
