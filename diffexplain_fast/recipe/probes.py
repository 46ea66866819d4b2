"""The probe: one network that names every attribute of a picture, those too that have no public word.

The probe learns only from rendered scenes and never sees the generator, because it judges generated pictures.
"""

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ResNetForImageClassification

from diffexplain_fast.recipe.classifiers import Changes, augmented, build_resnet
from diffexplain_fast.recipe.data import Scenes, as_pixels
from diffexplain_fast.recipe.training import Batch, Loss, Plan
from diffexplain_fast.tinyworld.store import split_logits
from diffexplain_fast.tinyworld.words import NOTHING, WORLD, values_of

PLAN = Plan(steps=12_000, batch=64, rate=3e-3, decay=1e-2, average=0.995)
HEADS = {name: len(values_of(name)) for name in WORLD}
_OF_OBJECT = ("colour", "texture", "size", "place")


def build_probe() -> ResNetForImageClassification:
    """Return the untrained probe."""
    return build_resnet([f"{name}:{value}" for name in WORLD for value in values_of(name)])


def probe_loss(model: ResNetForImageClassification, scenes: Scenes, batch: int) -> Loss:
    """Return the summed cross-entropy; colour, texture, size and place count only where there is an object."""
    usable = torch.from_numpy(np.flatnonzero(scenes.column("style").numpy() == 0))
    codes = {name: scenes.column(name) for name in WORLD}
    empty = values_of("object").index(NOTHING)

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = usable[torch.from_numpy(rng.integers(len(usable), size=batch))]
        pixels = augmented(as_pixels(scenes.pixels[rows]), rng, generator, Changes(mirror=False))
        return {"pixels": pixels} | {name: column[rows] for name, column in codes.items()}

    def loss(batch: Batch) -> torch.Tensor:
        logits = split_logits(model(pixel_values=batch["pixels"]).logits, HEADS)
        there = batch["object"] != empty
        total = logits["object"].new_zeros(())
        for name, part in logits.items():
            each = F.cross_entropy(part, batch[name], reduction="none")
            total = total + (each * there if name in _OF_OBJECT else each).mean()
        return total

    return Loss(draw, loss)
