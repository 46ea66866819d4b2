"""Hidden features of a classifier as outcomes of a trial: units, and directions in the space of a layer's units."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.methods.discovery.directions import Given, check_directions, chosen_directions
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.methods.discovery.unit_heads import class_weights
from diffexplain_fast.methods.discovery.unit_rows import check_features, feature_rows, halves
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.targets import whole_number
from diffexplain_fast.targets.neurons import channel_axis, layout_of
from diffexplain_fast.targets.outputs import is_hit


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
        self._known: dict[str, np.ndarray] = {}

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
        weights = None if target is None else class_weights(self._question.readout.classifier, target, count)
        values = self._activations(name)
        shares = None if weights is None or target is None else weights * self._answered(values, target)
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
        values = self._activations(name)
        vectors = chosen_directions(directions, values[first], named, concepts)
        rows = self._rows(values @ np.stack(list(vectors.values()), 1), list(vectors), minimal_effect)
        return [replace(row, unit=number) for number, row in enumerate(rows)]

    def _rows(self, values: np.ndarray, names: Sequence[str], minimal_effect: float) -> list[UnitRow]:
        return feature_rows(self._plan.asked, self._question.concepts.names, values, names, minimal_effect, self._level)

    def _checked(self, layer: str, minimal_effect: float) -> tuple[str, int]:
        """Return the name of a layer and its number of units, which one black picture tells."""
        check_features(self._plan.asked, minimal_effect)
        name, pool = self._question.readout.classifier.resolve_layer(layer), self._question.pool
        return name, self._means(name, pool.as_pixels(pool.blank())).shape[1]

    def _activations(self, name: str) -> np.ndarray:
        """Return the mean over positions of every unit, float64 [pictures, units]."""
        if name not in self._known:
            self._known[name] = np.concatenate([self._means(name, pixels) for pixels in self._pictures()])
        return self._known[name]

    @torch.no_grad()
    def _means(self, name: str, pixels: Tensor) -> np.ndarray:
        classifier = self._question.readout.classifier
        activation = classifier.respond(pixels, [name]).activations[name]
        axis = channel_axis(activation.shape, layout_of(cast(nn.Module, classifier.model), name), pixels.shape[2:])
        if axis is None:
            raise wrong_value("layer", "one whose modules show the axis of its units", list(activation.shape))
        means = activation.movedim(axis, 1)
        return np.asarray(means.reshape(len(pixels), means.shape[1], -1).mean(2).double().cpu())

    @torch.no_grad()
    def _answered(self, values: np.ndarray, target: str) -> np.ndarray:
        """Return the mean of every unit over the pictures that are answered with a class, or over all without any.

        The pictures count as much as they do in the trial.
        """
        classifier, hits = self._question.readout.classifier, []
        index = classifier.label_index(target)
        for pixels in self._pictures():
            response = classifier.respond(pixels)
            hits.append(is_hit(response.logits, index, response.output).cpu().numpy())
        rows, weights = np.concatenate(hits), self._plan.asked.weights
        rows = rows if rows.any() else np.ones_like(rows)
        return np.asarray(np.average(values[rows], 0, None if weights is None else weights[rows]))

    def _pictures(self) -> Iterator[Tensor]:
        pool, plan = self._question.pool, self._plan
        return map(pool.as_pixels, pool.pictures(plan.stage, plan.captions, 0, len(plan.captions)))


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
