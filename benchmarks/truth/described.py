"""Descriptions of a class, and how well they predict the classifier on fresh pictures.

For every class eighty scenes are rendered that no method has seen: forty for which the true description promises the
class, and forty for which it does not; half of both show the class's own object. A description predicts the forty with
its highest scores high. Its predictiveness is the share of pictures whose real value lies on the predicted side of
the median; a description that says nothing reaches one half.

Source: SAIA (arXiv 2510.21704), predictiveness.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

import diffexplain_fast as dx
from benchmarks.truth.cells import Cell, Planned
from diffexplain_fast.recipe.data import render_given
from diffexplain_fast.recipe.habits import expected
from diffexplain_fast.recipe.levels import answers, drawn
from diffexplain_fast.recipe.planting import Planted, wanted_logits
from diffexplain_fast.recipe.truth import on_scale
from diffexplain_fast.targets.outputs import SOFTMAX
from diffexplain_fast.tinyworld.grammar import visible
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, values_of

HIGH = 40
"""Scenes for which the true description promises the class, and as many for which it does not."""
_FIRST_SEED, _EACH_CLASS = 4_000_000, 1000
Scene = Mapping[str, str]


class Pair(NamedTuple):
    """Two concepts that a description names together.

    Attributes:
        first: a concept, "group:value".
        second: another one.
        kind: "and", "or" or "add".
        weight: what both together add to the sum of what each does.
    """

    first: str
    second: str
    kind: str
    weight: float


class Description(NamedTuple):
    """What a method says of a class.

    Attributes:
        weights: concept to how much the concept raises the class.
        pairs: concepts that act together.
    """

    weights: Mapping[str, float]
    pairs: Sequence[Pair] = ()

    def score(self, scene: Scene) -> float:
        """Return how high the class should be in a scene."""
        seen = {**visible(scene), "mark": scene.get("mark", ABSENCE["mark"])}
        shown = {f"{name}:{value}" for name, value in seen.items()}
        alone = sum(weight for concept, weight in self.weights.items() if concept in shown)
        return alone + sum(pair.weight for pair in self.pairs if {pair.first, pair.second} <= shown)


def scenes_of(label: str, cell: Cell | None) -> list[dict[str, str]]:
    """Return the scenes of a class: first those that show its cue, then as many that do not.

    Where a cue needs several values, half of the second kind show some of them. A class without a cue is promised by
    its own object, which then is in all scenes of the first kind and in none of the second.

    Args:
        label: the class.
        cell: what is planted in the class, None for nothing.
    """
    scenes, own = [], OBJECTS.index(label)
    for turn in range(2 * HIGH):
        promised = turn < HIGH
        there = promised if cell is None else turn % 2 == 0
        other = own + 1 + turn // 2 % (len(OBJECTS) - 1)
        scene = drawn(_seed(label, turn), own if there else other)
        scenes.append(scene if cell is None else scene | _cue(cell, promised, turn))
    return scenes


def _cue(cell: Cell, promised: bool, turn: int) -> dict[str, str]:
    """Return the attributes of a cue in a scene that shows the cue, or does not."""
    rng = np.random.default_rng([_seed(cell.label, turn), 6])
    values = list(cell.cue.values)
    shown = len(values) if cell.cue.every else 1
    if not promised:
        shown = (turn // 2 % 2) * (len(values) - 1) if cell.cue.every else 0
    kept = {values[i] for i in rng.permutation(len(values))[:shown]}
    return dict((name, value) if (name, value) in kept else (name, _other(name, value, rng)) for name, value in values)


def _other(name: str, value: str, rng: np.random.Generator) -> str:
    """Return another value of an attribute; of an attribute that most scenes lack, its absence."""
    if name in ("pattern", "frame", "mark") and value != ABSENCE[name]:
        return ABSENCE[name]
    return str(rng.choice([other for other in values_of(name) if other != value]))


def _seed(label: str, turn: int) -> int:
    return _FIRST_SEED + _EACH_CLASS * OBJECTS.index(label) + turn


def values_on(classifier: dx.Classifier, label: str, cell: Cell | None) -> list[float]:
    """Return the centred logit of a class in each of its scenes.

    Args:
        classifier: of the tiny world.
        label: the class.
        cell: what is planted in it.
    """
    scenes = scenes_of(label, cell)
    pictures = render_given(scenes, [_seed(label, turn) for turn in range(len(scenes))]).pixels
    said = on_scale(answers(classifier, pictures, torch.device("cpu")), classifier.output or SOFTMAX)
    return [round(float(value), 4) for value in said[:, OBJECTS.index(label)]]


def true_scores(planned: Planned, label: str) -> list[float]:
    """Return what the true description says of each scene of a class: the logit that the classifier was trained to say.

    A shipped classifier has no strength; its cue comes first, and its object decides among scenes with the same cue.

    Args:
        planned: the classifier.
        label: the class.
    """
    cues = {cell.label: cell.cue for cell in planned.cells}
    against = {name: found for name, cue in cues.items() if planned.reversed and (found := expected(name, cue))}
    scenes = scenes_of(label, planned.cell(label))
    wanted = wanted_logits(Planted(cues, planned.strength, against=against), scenes)
    return [float(value) for value in wanted[:, OBJECTS.index(label)]]


def predictiveness(scores: Sequence[float], values: Sequence[float]) -> float:
    """Return the share of pictures on the predicted side, the mean over all ways to break ties.

    Args:
        scores: what a description says of each picture.
        values: what the classifier says.
    """
    high, real = _upper_half(scores), _upper_half(values)
    return float(np.mean(high * real + (1 - high) * (1 - real)))


def _upper_half(values: Sequence[float]) -> np.ndarray:
    """Return the chance of every value to be among the upper half, if ties are broken at random."""
    found = np.asarray(values, dtype=float)
    half = len(found) // 2
    edge = np.sort(found)[::-1][half - 1]
    above, tied = found > edge, found == edge
    return np.where(above, 1.0, np.where(tied, (half - above.sum()) / tied.sum(), 0.0))
