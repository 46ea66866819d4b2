"""The truth about a classifier: the level of every logit under every attribute value, measured on paired scenes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe.levels import GROUPS, answers, drawn, layouts, rendered
from diffexplain_fast.recipe.rows import Sample, attribute_rows, difference, unnamed_rows
from diffexplain_fast.recipe.shortcuts import Cue
from diffexplain_fast.records import JsonObject
from diffexplain_fast.targets import outputs
from diffexplain_fast.targets.outputs import PROBABILITIES, SOFTMAX
from diffexplain_fast.tinyworld.words import OBJECTS, values_of

SEEDS = range(2_000_000, 2_000_128)
_PAIR_SEEDS = range(2_500_000, 2_500_064)
_FEWEST = 2 * len(OBJECTS)
_UNNAMED = ("pattern", "frame", "mark")
"""Attributes whose values have no public word."""


class Measured(NamedTuple):
    """Answers to all layouts, where N is their number, R that of ``ROWS`` and C that of the classes.

    Attributes:
        logits: [N, R, C] on the scale of the truth; see ``measure_truth``.
        hits: [N, R, C], whether the class is the answer.
        objects: [N], index of the object of every layout.
    """

    logits: np.ndarray
    hits: np.ndarray
    objects: np.ndarray


def measure_truth(
    model: nn.Module | Classifier,
    device: torch.device,
    seeds: range = SEEDS,
    cues: Mapping[str, Cue] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> JsonObject:
    """Measure what every attribute value does to every class.

    Every seed gives a layout and random attributes, and every class lends its object to one layout in eight. For each
    attribute the scene is rendered once per value, all else equal. Logits are centred: the picture's mean logit over
    the classes is taken away; the log-odds of a "sigmoid" and the numbers of a "regression" stay as they are.

    Args:
        model: a ``Classifier`` of the eight objects, or a module of pixels [B, 3, 64, 64] in [0, 1] that gives logits.
        device: of the model.
        seeds: one layout each; at least 16.
        cues: class to its planted cue, whose interactions are measured too.

    Returns:
        Class name to a dict of three lists, the strongest effect first:

        - "attributes": "attribute" such as "background:snow" or "companion:nothing"; "effect", its mean logit minus the
          median of its group, averaged over the class's own object present and absent; its 95 % "interval"; its
          "role": "core" for the class's own object, "spurious" for anything else that raises the logit by more than
          one, "suppresses" for what lowers it by more than one, "none" otherwise; and "levels", with the mean "logit"
          and the "share" of pictures answered with the class, each with an interval, "with" and "without" the own
          object (of a row about an object only the one that it is). A regression answers with no class.
        - "interactions": "first", "second", "effect" and "interval" for every two values of the planted cue: what both
          together do beyond the sum of what each does by itself, against other values by chance.
        - "unnamed": "cue", "effect" against its absence, "interval", "levels", and the levels where it is "absent", of
          what has no public word.

    Raises:
        ValueError: fewer than 16 seeds.
    """
    if len(seeds) < _FEWEST:
        raise wrong_value("seeds", f"at least {_FEWEST}, two for the object of every class", len(seeds))
    classifier = model if isinstance(model, Classifier) else Classifier(model, labels=OBJECTS, output=SOFTMAX)
    measured = measure(classifier, device, seeds, report)
    truth: JsonObject = {}
    for index, label in enumerate(OBJECTS):
        sample = Sample(measured.logits[..., index], measured.hits[..., index], measured.objects == index)
        cue = (cues or {}).get(label)
        truth[label] = {
            "attributes": attribute_rows(sample, label, [name for name in GROUPS if name not in _UNNAMED]),
            "interactions": _interactions(classifier, device, index, cue) if cue is not None else [],
            "unnamed": unnamed_rows(sample, _UNNAMED),
        }
    return truth


def measure(
    classifier: Classifier,
    device: torch.device,
    seeds: range = SEEDS,
    report: Callable[[int, int], None] | None = None,
) -> Measured:
    """Return the answers of a classifier to the counterfactual scenes of every seed, and report each."""
    logits, hits, objects = [], [], []
    for layout in layouts(seeds):
        found = answers(classifier, layout.pictures, device)[layout.rows]
        logits.append(on_scale(found, classifier.output or SOFTMAX))
        hits.append(outputs.answers(torch.from_numpy(found), classifier.output or SOFTMAX).numpy())
        objects.append(layout.object)
        if report is not None:
            report(len(objects), len(seeds))
    return Measured(np.stack(logits), np.stack(hits), np.array(objects))


def on_scale(logits: np.ndarray, output: str) -> np.ndarray:
    """Return logits [..., C] minus their mean over the classes where one class is right, otherwise as they are."""
    return logits - logits.mean(-1, keepdims=True) if output in (SOFTMAX, PROBABILITIES) else logits


def _interactions(classifier: Classifier, device: torch.device, index: int, cue: Cue) -> list[JsonObject]:
    """Measure every two values of a cue; half of the scenes show the class's own object."""
    own = np.array([turn % 2 == 0 for turn in range(len(_PAIR_SEEDS))])
    rows = []
    for i, first in enumerate(cue.values):
        for second in cue.values[i + 1 :]:
            found = []
            for turn, seed in enumerate(_PAIR_SEEDS):
                base = drawn(seed, index if own[turn] else index + 1 + turn % (len(OBJECTS) - 1))
                scenes = [base | dict(pair) for pair in _corners(first, second, seed)]
                said = on_scale(answers(classifier, rendered(scenes, seed), device), classifier.output or SOFTMAX)
                both, one, other, neither = said[:, index]
                found.append(both - one - other + neither)
            effect, interval = difference(np.array(found), own)
            rows.append({"first": ":".join(first), "second": ":".join(second), "effect": effect, "interval": interval})
    return rows


def _corners(first: tuple[str, str], second: tuple[str, str], seed: int) -> list[tuple[tuple[str, str], ...]]:
    """Two values together, each with another value in place of the other, and neither."""
    rng = np.random.default_rng([seed, 4])
    others = [(name, str(rng.choice([v for v in values_of(name) if v != value]))) for name, value in (first, second)]
    return [(first, second), (first, others[1]), (others[0], second), (others[0], others[1])]
