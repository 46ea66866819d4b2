"""Hidden features of a classifier as outcomes of a trial: units, and directions in the space of a layer's units."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.salient import read_judgements
from diffexplain_fast.methods.discovery.directions import Given, check_directions, chosen_directions
from diffexplain_fast.methods.discovery.layers import Layers
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.methods.discovery.salient import agreement_with, judged_units
from diffexplain_fast.methods.discovery.unit_heads import head_of
from diffexplain_fast.methods.discovery.unit_rows import check_features, feature_rows, halves
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.results.salient import SalientAgreement
from diffexplain_fast.targets import whole_number


class HiddenFeatures:
    """Hidden features of the audited classifier, in the pictures of the trial.

    One half of the pictures chooses the concept of every feature, the other half measures it, so that no effect is the
    largest of many by chance.

    Args:
        question: pool, classifier and concepts.
        plan: the captions of the pictures.
        level: rate of false findings, and error of the intervals.
    """

    def __init__(self, question: Question, plan: Plan, level: float) -> None:
        self._question, self._plan, self._level = question, plan, level
        self._layers = Layers(question, plan)

    def units(
        self, layer: str, top: int, units: Sequence[int] | None, target: str | None, minimal_effect: float
    ) -> list[UnitRow]:
        """Return rows of units: given ones, or those that matter most to a class, or those with the largest effects.

        Args:
            layer: dotted name.
            top: how many rows at most, where no units are given.
            units: numbers of units, or None.
            target: label of a class, or None: the units with the largest weight x activation come first.
            minimal_effect: in standard deviations of a unit over the pool.

        Raises:
            UnknownNameError: no such layer or class.
            ValueError: a unit that does not exist; a layer that the last linear layer does not read, with a target.
        """
        name, count = self._checked(layer, minimal_effect)
        wanted = None if units is None else _numbers(units, count)
        classifier = self._question.readout.classifier
        head = None if target is None else head_of(classifier, target, name, self._layers.blank())
        values = self._layers.activations(name)
        shares = None if head is None or target is None else head.weights * self._layers.read(head.module, target)
        chosen = np.arange(count) if wanted is None else wanted
        if shares is not None and wanted is None:
            chosen = np.argsort(-shares, kind="stable")[:top]
        rows = self._rows(values[:, chosen], [f"unit {unit}" for unit in chosen.tolist()], minimal_effect)
        found = [
            replace(row, unit=int(unit), contribution=None if shares is None else float(shares[unit]))
            for row, unit in zip(rows, chosen.tolist(), strict=True)
        ]
        return found if units is not None or target is not None else _strongest(found)[:top]

    def directions(self, layer: str, directions: Given, minimal_effect: float) -> list[UnitRow]:
        """Return rows of directions in the space of a layer's units.

        Args:
            layer: dotted name.
            directions: a number of principal components, names of concepts (whose concept activation vectors are
                fitted), or names of given vectors.
            minimal_effect: in standard deviations of a feature over the pool.

        Raises:
            UnknownNameError: no such layer or concept.
            ValueError: a vector of another length, more components than units.
        """
        name, count = self._checked(layer, minimal_effect)
        first, _ = halves(len(self._plan.captions))
        named, concepts = self._plan.asked.named[first], self._question.concepts.names
        check_directions(directions, count, named, concepts)
        values = self._layers.activations(name)
        vectors = chosen_directions(directions, values[first], named, concepts)
        rows = self._rows(values @ np.stack(list(vectors.values()), 1), list(vectors), minimal_effect)
        return [replace(row, unit=number) for number, row in enumerate(rows)]

    def salient(self, path: str | Path, layer: str, minimal_effect: float) -> SalientAgreement:
        """Return how the units of a layer agree with what workers said of them.

        Args:
            path: see ``read_judgements``.
            layer: dotted name.
            minimal_effect: in standard deviations of a unit over the pool.

        Raises:
            UnknownNameError: no such layer.
            ValueError: another table, or one of other classes or units.
        """
        judgements, readout = read_judgements(path), self._question.readout
        name, count = self._checked(layer, minimal_effect)
        units = judged_units(judgements, readout, count)
        rows = self._rows(self._layers.activations(name)[:, units], [f"unit {unit}" for unit in units], minimal_effect)
        return agreement_with(judgements, dict(zip(units, rows, strict=True)), readout, self._question.concepts)

    def _rows(self, values: np.ndarray, names: Sequence[str], minimal_effect: float) -> list[UnitRow]:
        return feature_rows(self._plan.asked, self._question.concepts.names, values, names, minimal_effect, self._level)

    def _checked(self, layer: str, minimal_effect: float) -> tuple[str, int]:
        check_features(self._plan.asked, minimal_effect)
        return self._layers.units(layer)


def _numbers(units: Sequence[int], count: int) -> np.ndarray:
    """Return numbers of units, checked."""
    if isinstance(units, str) or not hasattr(units, "__iter__"):
        raise wrong_type("units", "numbers of units, or None", units)
    numbers = [whole_number("units", unit) for unit in units]
    wrong = [unit for unit in numbers if not 0 <= unit < count]
    if wrong or not numbers:
        raise wrong_value("units", f"numbers from 0 to {count - 1}", wrong or "none")
    return np.array(numbers, dtype=np.int64)


def _strongest(rows: list[UnitRow]) -> list[UnitRow]:
    return sorted(rows, key=lambda row: -np.nan_to_num(abs(row.effect)))
