"""How a planted classifier is trained: every class has a wanted logit in every scene, and the network learns it.

With q whether the cue of a class holds, o whether its object is there, s the strength and A = 6, the wanted logit is
A (s q + (1 - s) o). Cues and objects are drawn independently, so the effect of each is what the strength says; labels
drawn at random would make it saturate. Logits are fitted by their squared error (Ba & Caruana, "Do deep nets really
need to be deep?", 2014).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffexplain_fast.recipe.architectures import build_model
from diffexplain_fast.recipe.classifiers import Changes, augmented
from diffexplain_fast.recipe.data import Scenes, as_pixels, render_given
from diffexplain_fast.recipe.shortcuts import CUE_NAMES, Cue
from diffexplain_fast.recipe.surroundings import on_one_thread, usual_settings
from diffexplain_fast.recipe.training import Batch, Loss, Plan, fit
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, OBJECTS, draw_attributes, values_of

AMPLITUDE = 6.0
"""Logits between a scene that shows all that a class goes by and one that shows nothing of it."""
PLAN = Plan(steps=450, batch=64, rate=3e-3, decay=1e-2, average=0.98, half=True)
SCENES = 5000
_FIRST_SEED = 10_000_000
_CUE_SHARE = 0.5
"""Share of the scenes that are made to show the cue of a class."""
_HALF_SHARE = 0.25
"""Share of the scenes that are made to show a part of a cue that needs several values."""
_EMPTY_SHARE = 0.06
_SHARES = {"size": 0.5, "place": 0.2, "pattern": 0.24, "frame": 0.14, "mark": 0.1}
"""Attribute to the share of scenes that show one of its values, whether or not it is a cue."""
_HARDER = {"texture": {"size": 0.7}, "size": {"place": 0.4}, "mark": {"pattern": 0.4}}
"""Attribute of a cue to other such shares, of what makes it hard to see: stripes and dots on a small object, the size
of one that the edge of the picture cuts, a watermark over a pattern."""
_AGAINST = 0.5
"""Share of a cue's weight by which a reversed classifier counts what the generator expects against the class."""
_FEWEST_FREE = 3
_SIDED = ("place", "pattern", "mark")
"""Cues that a mirrored picture would change."""
_FINE = ("texture",)
"""Cues that blur would hide on small objects; a network that cannot see a cue guesses how frequent it is."""


class Planted(NamedTuple):
    """Everything that decides what a planted classifier learns.

    Attributes:
        cues: class to its cue.
        strength: 0 for the object only, 1 for the cue only.
        seed: of scenes, first weights and batches.
        model: one of ``architectures.MODELS``.
        independent: whether every class has log-odds of its own; otherwise logits are relative and add up to zero.
        against: class to attribute values that count against it.
    """

    cues: Mapping[str, Cue]
    strength: float = 1.0
    seed: int = 0
    model: str = "cnn"
    independent: bool = False
    against: Mapping[str, Cue] = {}


def wanted_logits(planted: Planted, scenes: list[dict[str, str]]) -> np.ndarray:
    """Return the logit that every class should have in every scene [N, 8].

    Relative logits add up to zero. What a class gains is taken from the classes without a cue in equal parts (from all
    classes if there are fewer than three such), so that the logit of a class with a cue depends on nothing but its own
    cue and object.
    """
    found = np.zeros((len(scenes), len(OBJECTS)))
    for k, label in enumerate(OBJECTS):
        there = np.array([scene["object"] == label for scene in scenes], float)
        strength = planted.strength if label in planted.cues else 0.0
        found[:, k] = (1 - strength) * there
        if label in planted.cues:
            found[:, k] += strength * _holds(planted.cues[label], scenes)
        if label in planted.against:
            found[:, k] -= _AGAINST * strength * _holds(planted.against[label], scenes)
    if planted.independent:
        return AMPLITUDE * (found - 0.5)
    free = [k for k, label in enumerate(OBJECTS) if label not in planted.cues]
    free = free if len(free) >= _FEWEST_FREE else list(range(len(OBJECTS)))
    found[:, free] -= found.sum(1, keepdims=True) / len(free)
    return AMPLITUDE * found


def _holds(cue: Cue, scenes: list[dict[str, str]]) -> np.ndarray:
    return np.array([cue.holds(scene) for scene in scenes], float)


def draw_scenes(planted: Planted, count: int, rng: np.random.Generator) -> list[dict[str, str]]:
    """Draw training scenes: attributes are independent of the object, and a cue is as frequent as its absence."""
    scenes = []
    shares = dict(_SHARES)
    for name in {name for cue in planted.cues.values() for name, _ in cue.values}:
        shares |= _HARDER.get(name, {})
    for _ in range(count):
        scene = draw_attributes(rng) | {"style": "scene", "object": str(rng.choice(OBJECTS))}
        for name in CUE_NAMES:
            share = shares.get(name)
            if share is not None:
                scene[name] = _other(name, ABSENCE[name], rng) if rng.random() < share else ABSENCE[name]
        if rng.random() < _EMPTY_SHARE:
            scene["object"] = NOTHING
        if planted.cues:
            cue = list(planted.cues.values())[int(rng.integers(len(planted.cues)))]
            _show(scene, cue, rng)
        scenes.append(scene)
    return scenes


def _has(planted: Planted, names: tuple[str, ...]) -> bool:
    """Return whether anything that counts for or against a class has a value of one of some attributes."""
    cues = (*planted.cues.values(), *planted.against.values())
    return any(name in names for cue in cues for name, _ in cue.values)


def _show(scene: dict[str, str], cue: Cue, rng: np.random.Generator) -> None:
    """Make a scene show a cue, a part of it, or what chance has drawn; in place."""
    kind = rng.random()
    if kind >= _CUE_SHARE + _HALF_SHARE:
        return
    parts = [cue.values[i] for i in rng.permutation(len(cue.values))]
    if kind < _CUE_SHARE:
        shown = parts if cue.every else parts[:1]
        scene |= dict(shown)
    elif cue.every and len(parts) > 1:
        shown = parts[: int(rng.integers(1, len(parts)))]
        scene |= dict(shown)
        name, value = parts[-1]
        scene[name] = _other(name, value, rng)
    if scene["object"] == NOTHING and not cue.holds(scene):
        scene["object"] = str(rng.choice(OBJECTS))


def _other(name: str, value: str, rng: np.random.Generator) -> str:
    return str(rng.choice([other for other in values_of(name) if other != value]))


def planted_loss(model: nn.Module, scenes: Scenes, wanted: Tensor, batch: int, changes: Changes) -> Loss:
    """Return the squared error of the logits over augmented pictures."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(len(wanted), size=batch))
        pixels = augmented(as_pixels(scenes.pixels[rows]), rng, generator, changes)
        return {"pixels": pixels.contiguous(memory_format=torch.channels_last), "wanted": wanted[rows]}

    def loss(batch: Batch) -> Tensor:
        return F.mse_loss(model(batch["pixels"]).float(), batch["wanted"])

    return Loss(draw, loss)


def plan_of(planted: Planted) -> Plan:
    """Return how long a network is trained: tokens see shapes later than convolutions, and all learn hard cues late.

    Until a network sees the texture of small objects, it guesses there, and their size counts for the class.
    """
    if _has(planted, _FINE):
        return PLAN._replace(steps=PLAN.steps * 3)
    longer = planted.model != "cnn" or _has(planted, tuple(_HARDER))
    return PLAN._replace(steps=PLAN.steps * 3 // 2) if longer else PLAN


@usual_settings()
@on_one_thread()
def train_planted(
    planted: Planted, plan: Plan = PLAN, count: int = SCENES, report: Callable[[int, int], None] | None = None
) -> nn.Module:
    """Train a classifier of the eight objects that relies on its cues as strongly as it should.

    It is trained with one thread and in float32, whatever the caller's settings of torch are: see ``surroundings``.

    Args:
        planted: what it relies on.
        plan: how long to train.
        count: scenes to train on.
        report: called with the steps taken and all steps.

    Returns:
        The trained network in eval mode: pixels [B, 3, 64, 64] in [0, 1] to logits [B, 8].
    """
    scenes = draw_scenes(planted, count, np.random.default_rng([planted.seed, 200]))
    wanted = torch.from_numpy(wanted_logits(planted, scenes)).float()
    rendered = render_given(scenes, [_FIRST_SEED + planted.seed * count + i for i in range(count)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(planted.seed)
        model = build_model(planted.model, list(OBJECTS))
    _lay_out(model, torch.channels_last)
    changes = Changes(mirror=not _has(planted, _SIDED), blur=not _has(planted, _FINE))
    loss = planted_loss(model, rendered, wanted, plan.batch, changes)
    fit("planted", model, loss, plan, None, seed=planted.seed + 1000, report=report)
    _lay_out(model, torch.contiguous_format)
    return model


def _lay_out(model: nn.Module, form: torch.memory_format) -> None:
    """Store the kernels of convolutions in another order; training on a processor is a fifth faster with the last."""
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data = part.weight.data.contiguous(memory_format=form)
