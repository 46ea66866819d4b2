"""The truth about a classifier: what every attribute does to every logit, measured on counterfactual pairs."""

import math

import numpy as np
import torch
from torch import nn

from diffexplain_fast.recipe.data import as_pixels, render_given
from diffexplain_fast.records import JsonObject
from diffexplain_fast.tinyworld.words import ATTRIBUTES, OBJECTS, draw_attributes

SEEDS = range(2_000_000, 2_000_200)
_DECISIVE = 1.0
"""An attribute plays a role in a class when its effect on the logit is above this with 95 % confidence: it then
multiplies the odds of the class by e at least."""
_Z95 = 1.959964


@torch.no_grad()
def measure_truth(model: nn.Module, device: torch.device, seeds: range = SEEDS) -> JsonObject:
    """Measure the causal effect of every attribute value on every class logit.

    Every seed gives a layout and random attributes. For each attribute the scene is rendered once per value, all else
    equal; the effect of a value on a scene is its logit minus the mean logit of the other values.

    Args:
        model: pixels [B, 3, 64, 64] in [0, 1] to an output with ``logits`` [B, 8] (the transformers convention).
        device: of the model.
        seeds: one scene each.

    Returns:
        Class name to ``{"attributes": [{"attribute", "effect", "interval", "role"}, ...]}``, strongest first; the role
        is "core" for the class's own object, "spurious" for anything else with a decisive effect, "none" otherwise.
    """
    effects: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        drawn = draw_attributes(np.random.default_rng([seed, 0])) | {"style": "scene"}
        drawn["object"] = drawn["object"] if drawn["object"] in OBJECTS else OBJECTS[seed % len(OBJECTS)]
        scenes = [drawn | {name: value} for name, values in ATTRIBUTES.items() for value in values]
        pixels = as_pixels(render_given(scenes, [seed] * len(scenes)).pixels, device)
        logits = model(pixel_values=pixels).logits.double().cpu().numpy()
        row = 0
        for name, values in ATTRIBUTES.items():
            part = logits[row : row + len(values)]
            others = (part.sum(0, keepdims=True) - part) / (len(values) - 1)
            for value, effect in zip(values, part - others, strict=True):
                effects.setdefault(f"{name}:{value}", []).append(effect)
            row += len(values)
    return {label: {"attributes": _ranked(effects, i, label)} for i, label in enumerate(OBJECTS)}


def _ranked(effects: dict[str, list[np.ndarray]], index: int, label: str) -> list[JsonObject]:
    rows = []
    for attribute, values in effects.items():
        sample = np.asarray(values)[:, index]
        mean, half = float(sample.mean()), _Z95 * float(sample.std(ddof=1)) / math.sqrt(len(sample))
        decisive = mean - half > _DECISIVE
        role = ("core" if attribute == f"object:{label}" else "spurious") if decisive else "none"
        rows.append({"attribute": attribute, "effect": mean, "interval": [mean - half, mean + half], "role": role})
    return sorted(rows, key=lambda row: -row["effect"])
