"""The truth about a classifier: the level of every logit under every attribute value, measured on paired scenes.

An effect is that in a population of scenes. Where nothing is planted, or one value, or one of several, or pairs of
colours, backgrounds and companions, the scenes are those of the training pictures: their size and place are the usual
ones, three surfaces in five are plain, and there is no pattern, frame or mark. A cue that needs a rare value beside
another one would have no effect there. So an attribute that a cue of ``all_of`` needs takes each of its values equally
often, as in the captions of an audit, whose other groups are uniform over their values.
"""

from collections.abc import Callable, Mapping, Sequence
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
_PAIR = 2
_UNNAMED = ("pattern", "frame", "mark")
"""Attributes whose values have no public word."""
_RARE = ("texture", "size", "place", *_UNNAMED)
"""Attributes whose values are not about equally frequent in training scenes."""


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

    The random attributes are those of training scenes: colour and background take every value equally often, so do the
    companions in four scenes of five, three surfaces in five are plain, size and place are the usual ones, and there is
    no pattern, frame or mark. Of these last six, those that an ``all_of`` cue of any class needs are drawn anew, each
    of their values, absence among them, equally often; then the effect of one part of a cue is its effect where the
    other parts are as frequent as any other value, as in an audit whose groups hold all values.

    Args:
        model: a ``Classifier`` of the eight objects, or a module of pixels [B, 3, 64, 64] in [0, 1] that gives logits.
        device: of the model.
        seeds: one layout each; at least 16.
        cues: class to its planted cue, which decides the population, and whose interactions are measured too.

    Returns:
        Class name to a dict of three lists, the strongest effect first:

        - "attributes": "attribute" such as "background:snow" or "companion:nothing"; "effect", its mean logit minus the
          median of its group, averaged over the class's own object present and absent; its 95 % "interval"; its
          "role": "core" for the class's own object, "spurious" for anything else that raises the logit by more than
          one, "suppresses" for what lowers it by more than one, "none" otherwise; and "levels", with the mean "logit"
          and the "share" of pictures answered with the class, each with an interval, "with" and "without" the own
          object (of a row about an object only the one that it is). A regression answers with no class.
        - "interactions": "first", "second", "effect" and "interval" for every two values of the planted cue: what both
          together do beyond the sum of what each does by itself, against other values by chance. The other parts of an
          ``all_of`` cue of more than two are there in half of the scenes, and in the other half none of them is.
        - "unnamed": "cue", "effect" against its absence, "interval", "levels", and the levels where it is "absent", of
          what has no public word.

    Raises:
        ValueError: fewer than 16 seeds.
    """
    if len(seeds) < _FEWEST:
        raise wrong_value("seeds", f"at least {_FEWEST}, two for the object of every class", len(seeds))
    classifier = model if isinstance(model, Classifier) else Classifier(model, labels=OBJECTS, output=SOFTMAX)
    measured = measure(classifier, device, seeds, report, varied_by(cues or {}))
    truth: JsonObject = {}
    for index, label in enumerate(OBJECTS):
        sample = Sample(measured.logits[..., index], measured.hits[..., index], measured.objects == index)
        cue = (cues or {}).get(label)
        truth[label] = {
            "attributes": attribute_rows(sample, label, [name for name in GROUPS if name not in _UNNAMED]),
            "interactions": _interactions(classifier, device, index, cue, varied_by(cues or {})) if cue else [],
            "unnamed": unnamed_rows(sample, _UNNAMED),
        }
    return truth


def measure(
    classifier: Classifier,
    device: torch.device,
    seeds: range = SEEDS,
    report: Callable[[int, int], None] | None = None,
    varied: Sequence[str] = (),
) -> Measured:
    """Return the answers of a classifier to the counterfactual scenes of every seed, and report each."""
    logits, hits, objects = [], [], []
    for layout in layouts(seeds, varied=varied):
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


def varied_by(cues: Mapping[str, Cue]) -> tuple[str, ...]:
    """Return the attributes that take every value equally often in the scenes of a truth; see ``measure_truth``."""
    needed = {name for cue in cues.values() if _is_several(cue) for name, _ in cue.values}
    return tuple(name for name in _RARE if name in needed)


def has_own_population(cues: Mapping[str, Cue]) -> bool:
    """Return whether cues make the scenes of a truth others than those of a classifier without cues."""
    return bool(varied_by(cues)) or any(_is_several(cue) and len(cue.values) > _PAIR for cue in cues.values())


def _is_several(cue: Cue) -> bool:
    return cue.every and len(cue.values) >= _PAIR


def _interactions(
    classifier: Classifier, device: torch.device, index: int, cue: Cue, varied: Sequence[str]
) -> list[JsonObject]:
    """Measure every two values of a cue; half of the scenes show the class's own object."""
    own = np.array([turn % 2 == 0 for turn in range(len(_PAIR_SEEDS))])
    rows = []
    for i, first in enumerate(cue.values):
        for second in cue.values[i + 1 :]:
            found = []
            for turn, seed in enumerate(_PAIR_SEEDS):
                base = drawn(seed, index if own[turn] else index + 1 + turn % (len(OBJECTS) - 1), varied=varied)
                rest = [part for part in cue.values if part not in (first, second)] if cue.every else []
                base |= dict(rest if turn // 2 % 2 == 0 else _other_values(rest, np.random.default_rng([seed, 8])))
                scenes = [base | dict(pair) for pair in _corners(first, second, seed)]
                said = on_scale(answers(classifier, rendered(scenes, seed), device), classifier.output or SOFTMAX)
                both, one, other, neither = said[:, index]
                found.append(both - one - other + neither)
            effect, interval = difference(np.array(found), own)
            rows.append({"first": ":".join(first), "second": ":".join(second), "effect": effect, "interval": interval})
    return rows


def _corners(first: tuple[str, str], second: tuple[str, str], seed: int) -> list[tuple[tuple[str, str], ...]]:
    """Two values together, each with another value in place of the other, and neither."""
    others = _other_values((first, second), np.random.default_rng([seed, 4]))
    return [(first, second), (first, others[1]), (others[0], second), (others[0], others[1])]


def _other_values(parts: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    return [(name, str(rng.choice([v for v in values_of(name) if v != value]))) for name, value in parts]
