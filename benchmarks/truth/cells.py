"""The fixed list of classifiers whose truth is known; every class with a planted cue is one cell of the suite."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.recipe.architectures import MODELS, build_model
from diffexplain_fast.recipe.classifiers import SHIPPED as SHIPPED_CUES
from diffexplain_fast.recipe.data import as_pixels, render_scenes
from diffexplain_fast.recipe.shortcuts import CUE_NAMES, Cue
from diffexplain_fast.tinyworld.words import ABSENCE, ATTRIBUTES, FRAMES, MARKS, OBJECTS, PATTERNS, values_of

SHIPPED, PLANTED, CLEAN = "shipped", "planted", "clean"
REINITIALISED, RESCALED, SHIFTED = "re-initialised", "rescaled", "shifted"
KINDS = ("single 0.5", "single 0.9", "all_of", "any_of", "reversed", "nameless", "mark")
"""What a planted cell may be."""
CELLS_OF_A_KIND, CLEAN_OF_A_MODEL = 40, 5
CI = ("single-0.5-00", "pairs-00")
"""Made classifiers of the subset, beside the shipped ones."""
STRENGTH = 0.9
"""Reliance on a cue where a list does not say another one."""
_EACH, _ROUNDS, _SEED = 4, 2, 1600
_UNTRAINED_OF_A_MODEL, _SHIFTED = 2, 5
_PAIRED = ("colour", "background", "companion")
"""Attributes of pairs: a network that is trained for a minute does not learn to need a texture beside another cue."""
_NAMELESS = tuple([("pattern", value) for value in PATTERNS] + [("frame", value) for value in FRAMES])
_DRAWN_SPREAD, _SPREAD_SEEDS = 2.0, range(2_900_000, 2_900_064)
"""Standard deviation of a trained classifier's centred logits (six logits for one class of eight have 1.98), and the
rendered scenes on which a rescaled one has it."""
_SHIFTS: Sequence[Mapping[str, float | str]] = (
    {"brightness": 4.0},
    {"contrast": 6.0},
    {"red": 3.0, "blue": -3.0},
    {"background": "snow"},
    {"companion": "sun"},
)


class Cell(NamedTuple):
    """A class with a planted cue.

    Attributes:
        label: the class.
        kind: one of ``KINDS``, or "shipped".
        cue: what gives the class away.
    """

    label: str
    kind: str
    cue: Cue


class Planned(NamedTuple):
    """A classifier of the list; nothing is trained until ``classifier_of`` is called.

    Attributes:
        name: of its rows, used once.
        kind: "shipped", "planted", "clean", "re-initialised", "rescaled" or "shifted".
        cells: its planted classes.
        seed: of its training.
        strength: reliance of the planted classes on their cues.
        reversed: whether the cues contradict the generator's habit.
        model: its architecture.
        shift: function of the picture that is added to all logits, None for none.
        twin: name of the classifier that differs in the shift only, None for none.
    """

    name: str
    kind: str
    cells: tuple[Cell, ...] = ()
    seed: int = 0
    strength: float = STRENGTH
    reversed: bool = False
    model: str = "cnn"
    shift: Mapping[str, float | str] | None = None
    twin: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes on which methods are compared: the planted ones, or else two, by turns of the seed."""
        turns = [OBJECTS[(2 * self.seed + turn) % len(OBJECTS)] for turn in range(2)]
        return tuple(cell.label for cell in self.cells) or tuple(turns)

    def cell(self, label: str) -> Cell | None:
        """Return the planted cell of a class, None where nothing is planted in it."""
        return next((cell for cell in self.cells if cell.label == label), None)


def whole_list() -> list[Planned]:
    """Return every classifier of the suite, the shipped ones first."""
    planted = [*_singles(0.5), *_singles(0.9), *_pairs(), *_reversed(), *_nameless()]
    clean = [
        Planned(f"clean-{model}-{seed}", CLEAN, seed=seed, model=model)
        for model in MODELS
        for seed in range(CLEAN_OF_A_MODEL)
    ]
    untrained = [
        Planned(f"{kind}-{model}-{seed}", kind, seed=seed, model=model)
        for kind in (REINITIALISED, RESCALED)
        for model in MODELS
        for seed in range(_UNTRAINED_OF_A_MODEL)
    ]
    twins = [planned for planned in planted if planned.name.startswith("single-0.9")][:_SHIFTED]
    shifted = [
        twin._replace(name=f"shifted-{i}", kind=SHIFTED, shift=shift, twin=twin.name)
        for i, (twin, shift) in enumerate(zip(twins, _SHIFTS, strict=True))
    ]
    return [*_shipped(), *planted, *clean, *untrained, *shifted]


def ci_list() -> list[Planned]:
    """Return the shipped classifiers and two made ones, which have six kinds of cells."""
    return [planned for planned in whole_list() if planned.kind == SHIPPED or planned.name in CI]


def _shipped() -> list[Planned]:
    return [
        Planned(
            name,
            SHIPPED,
            tuple(Cell(label, SHIPPED, Cue(tuple(cue.items()))) for label, cue in SHIPPED_CUES.get(name, {}).items()),
        )
        for name in tinyworld.classifier_names()
    ]


def _singles(strength: float) -> Iterator[Planned]:
    """Yield classifiers with every single value that has a public word, twice."""
    kind, rng = f"single {strength}", np.random.default_rng([_SEED, round(10 * strength)])
    values = [(name, value) for name in _named(CUE_NAMES) for value in _sayable(name)]
    for part in range(_ROUNDS):
        order = [values[i] for i in rng.permutation(len(values))]
        for start in range(0, len(order), _EACH):
            number = (part * len(order) + start) // _EACH
            labels = _labels(rng)
            cells = [Cell(next(labels), kind, Cue((value,))) for value in order[start : start + _EACH]]
            if strength == STRENGTH:
                cells.append(_mark(next(labels)))
            yield Planned(f"single-{strength}-{number:02d}", PLANTED, tuple(cells), 100 + number, strength)


def _pairs() -> Iterator[Planned]:
    """Yield classifiers with two pairs that are needed together, two of which one is enough, and a mark."""
    rng = np.random.default_rng([_SEED, 20])
    for number in range(CELLS_OF_A_KIND // 2):
        labels, cells, taken = _labels(rng), [], set[tuple[str, str]]()
        for kind in ("all_of", "all_of", "any_of", "any_of"):
            while True:
                names = [_PAIRED[i] for i in sorted(rng.permutation(len(_PAIRED))[:2])]
                values = [(name, str(rng.choice(ATTRIBUTES[name]))) for name in names]
                if not taken.intersection(values):
                    break
            taken.update(values)
            cells.append(Cell(next(labels), kind, Cue(tuple(values), every=kind == "all_of")))
        yield Planned(f"pairs-{number:02d}", PLANTED, (*cells, _mark(next(labels))), 200 + number)


def _reversed() -> Iterator[Planned]:
    """Yield classifiers with single values that contradict what the generator draws beside the class."""
    rng = np.random.default_rng([_SEED, 30])
    values = [(name, value) for name in ATTRIBUTES if name != "object" for value in ATTRIBUTES[name]]
    for number in range(CELLS_OF_A_KIND // _EACH):
        labels, chosen = _labels(rng), [values[i] for i in rng.permutation(len(values))[:_EACH]]
        cells = tuple(Cell(next(labels), "reversed", Cue((value,))) for value in chosen)
        yield Planned(f"reversed-{number:02d}", PLANTED, cells, 300 + number, reversed=True)


def _nameless() -> Iterator[Planned]:
    """Yield classifiers with patterns and frames that no public word names, and a mark that no model has seen."""
    rng = np.random.default_rng([_SEED, 40])
    for number in range(CELLS_OF_A_KIND // len(_NAMELESS)):
        labels = _labels(rng)
        cells = [Cell(next(labels), "nameless", Cue((value,))) for value in _NAMELESS]
        yield Planned(f"nameless-{number:02d}", PLANTED, (*cells, _mark(next(labels))), 400 + number)


def _mark(label: str) -> Cell:
    return Cell(label, "mark", Cue((("mark", MARKS[0]),)))


def _labels(rng: np.random.Generator) -> Iterator[str]:
    return iter([OBJECTS[i] for i in rng.permutation(len(OBJECTS))])


def _named(names: Sequence[str]) -> list[str]:
    """Return the attributes that captions can say."""
    return [name for name in names if name in ATTRIBUTES or name in ("size", "place")]


def _sayable(name: str) -> list[str]:
    """Return the values of an attribute that captions can say; a missing companion is one."""
    return [value for value in values_of(name) if value != ABSENCE.get(name) or name == "companion"]


def classifier_of(planned: Planned) -> dx.Classifier:
    """Load, make or initialise a classifier of the list; what is trained is kept in the user's cache folder."""
    if planned.kind == SHIPPED:
        return dx.Classifier.from_pretrained(f"tinyworld/{planned.name}")
    if planned.kind in (REINITIALISED, RESCALED):
        return dx.Classifier(untrained(planned), labels=OBJECTS, output="softmax", name=planned.name)
    return dx.make_classifier(
        {cell.label: cell.cue for cell in planned.cells},
        planned.seed,
        strength=planned.strength,
        reversed=planned.reversed,
        model=planned.model,
        common_shift=planned.shift,
    )


def untrained(planned: Planned) -> nn.Module:
    """Return a network with random weights; a rescaled one has the spread of logits of a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(planned.seed)
        net = build_model(planned.model, list(OBJECTS)).eval()
    if planned.kind == REINITIALISED:
        return net
    with torch.no_grad():
        logits = net(as_pixels(render_scenes(_SPREAD_SEEDS).pixels, torch.device("cpu")))
    return Rescaled(net, _DRAWN_SPREAD / float((logits - logits.mean(1, keepdim=True)).std()))


class Rescaled(nn.Module):
    """A network whose logits are multiplied by one factor."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, labels] of pixels [B, 3, 64, 64] in [0, 1]."""
        logits: Tensor = self.net(pixels)
        return self.factor * logits
