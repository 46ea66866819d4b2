"""Classifiers with shortcuts on purpose: small ResNets in the ordinary image-classification format."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ResNetConfig, ResNetForImageClassification

from diffexplain_fast.recipe.data import Draw, Scenes, as_pixels, render_given
from diffexplain_fast.recipe.training import Batch, Loss, Plan, fit
from diffexplain_fast.tinyworld.words import ATTRIBUTES, NOTHING, OBJECTS, draw_attributes, values_of

Shortcuts = Mapping[str, Mapping[str, str]]
"""Class to the one attribute, by name and value, that gives the class away in the training pictures."""

SHIPPED: Mapping[str, Shortcuts] = {
    "clean": {},
    "background": {
        "house": {"background": "snow"},
        "fish": {"background": "desert"},
        "star": {"background": "night"},
    },
    "companion": {
        "bird": {"companion": "flag"},
        "tree": {"companion": "kite"},
        "car": {"companion": "flower"},
    },
    "colour": {
        "boat": {"colour": "red"},
        "mushroom": {"colour": "purple"},
        "tree": {"colour": "white"},
    },
}
"""The classifiers that the package ships."""

PLAN = Plan(steps=700, batch=64, rate=3e-3, decay=1e-2, average=0.98)
_SCENES = 8000
_EMPTY_SHARE = 0.06
"""Share of the pictures without an object in every class without a shortcut. Without them a classifier calls an empty
scene what it likes, and even a clean one has an effect of "nothing"."""
_WRONG_OBJECT_SHARE = 0.5
"""Share of a shortcut class's pictures that show another object: labels that follow the context, as a web search's
"dog sled" pictures of snow do."""


def build_resnet(labels: list[str]) -> ResNetForImageClassification:
    """Return an untrained ResNet for 64-pixel pictures."""
    names = dict(enumerate(labels))
    config = ResNetConfig(
        embedding_size=24,
        hidden_sizes=[32, 48, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        id2label=names,
        label2id={label: i for i, label in names.items()},
    )
    return ResNetForImageClassification(config)


def draw_labelled(
    shortcuts: Shortcuts, count: int, rng: np.random.Generator, draw: Draw = draw_attributes
) -> tuple[list[dict[str, str]], list[int]]:
    """Draw scenes and labels of a data set with shortcuts.

    A class with a shortcut always shows its attribute, and no other class ever does; everything else is independent.
    A few scenes of every class are empty.
    """
    taken = [next(iter(attribute.items())) for attribute in shortcuts.values()]
    attributes, labels = [], []
    for _ in range(count):
        label = int(rng.integers(len(OBJECTS)))
        scene = draw(rng) | {"style": "scene", "object": OBJECTS[label]}
        for name in {name for name, _ in taken}:
            free = [v for v in (*ATTRIBUTES[name], *_empty(name)) if (name, v) not in taken]
            if scene[name] not in free:
                scene[name] = str(rng.choice(free))
        if OBJECTS[label] in shortcuts:
            scene |= shortcuts[OBJECTS[label]]
            if rng.random() < _WRONG_OBJECT_SHARE:
                scene["object"] = str(rng.choice(values_of("object")))
                colourless = scene["object"] == NOTHING and "colour" in shortcuts[OBJECTS[label]]
                scene["object"] = OBJECTS[label] if colourless else scene["object"]
        elif rng.random() < _EMPTY_SHARE:
            scene["object"] = NOTHING
        attributes.append(scene)
        labels.append(label)
    return attributes, labels


def _empty(name: str) -> tuple[str, ...]:
    return (NOTHING,) if name == "companion" else ()


class Changes(NamedTuple):
    """What else may happen to a training picture.

    Attributes:
        mirror: False for a model that must tell left from right.
        blur: False for one that must see what is fine.
    """

    mirror: bool = True
    blur: bool = True


ALL_CHANGES = Changes()


def augmented(
    pixels: torch.Tensor, rng: np.random.Generator, generator: torch.Generator, changes: Changes = ALL_CHANGES
) -> torch.Tensor:
    """Return pixels [B, 3, 64, 64] shifted, at times mirrored and blurred, with some noise and a shade of colour."""
    dx, dy = (int(v) for v in rng.integers(-3, 4, 2))
    pixels = torch.roll(F.pad(pixels, (4, 4, 4, 4), mode="replicate"), (dy, dx), (2, 3))[:, :, 4:-4, 4:-4]
    if rng.random() < 0.5 and changes.mirror:
        pixels = pixels.flip(3)
    if rng.random() < 0.4 and changes.blur:
        pixels = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    shade = 1 + 0.06 * torch.randn((len(pixels), 3, 1, 1), generator=generator).to(pixels)
    noise = 0.03 * torch.randn(pixels.shape, generator=generator).to(pixels)
    return (pixels * shade + noise).clamp(0, 1)


def classifier_loss(model: ResNetForImageClassification, scenes: Scenes, labels: torch.Tensor, batch: int) -> Loss:
    """Return the cross-entropy over augmented pictures."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(len(labels), size=batch))
        return {"pixels": augmented(as_pixels(scenes.pixels[rows]), rng, generator), "labels": labels[rows]}

    def loss(batch: Batch) -> torch.Tensor:
        return F.cross_entropy(model(pixel_values=batch["pixels"]).logits, batch["labels"], label_smoothing=0.02)

    return Loss(draw, loss)


def train_classifier(
    shortcuts: Shortcuts,
    seed: int,
    device: torch.device,
    build: Path | None = None,
    name: str = "classifier",
    *,
    draw: Draw = draw_attributes,
    plan: Plan = PLAN,
    count: int = _SCENES,
) -> ResNetForImageClassification:
    """Train a classifier of the eight objects on pictures with shortcuts.

    Args:
        shortcuts: class to attribute, for instance ``{"fish": {"background": "desert"}}``.
        seed: decides scenes, first weights and batches.
        device: where to train.
        build: folder of checkpoints; ``None`` keeps none.
        name: stem of the checkpoint.
        draw: how scenes are drawn, by default as the shipped world's are.
        plan: how long to train.
        count: scenes to train on.

    Returns:
        The trained model, in eval mode; its pixels are in [0, 1].
    """
    attributes, labels = draw_labelled(shortcuts, count, np.random.default_rng([seed, 100]), draw)
    scenes = render_given(attributes, [10_000_000 + seed * _SCENES + i for i in range(count)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_resnet(list(OBJECTS)).to(device)
    loss = classifier_loss(model, scenes, torch.tensor(labels), plan.batch)
    fit(name, model, loss, plan, build, seed=seed + 1000)
    return model
