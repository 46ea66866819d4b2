"""Hidden features of a classifier as outcomes of a trial: units, and directions in the space of a layer's units."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.methods.discovery.directions import chosen_directions
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.methods.discovery.unit_heads import class_weights
from diffexplain_fast.methods.discovery.unit_rows import feature_rows, halves
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.targets.neurons import channel_axis, layout_of


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
        values = self._activations(layer)
        chosen, shares = np.arange(values.shape[1]), None
        if units is not None:
            wrong = [unit for unit in units if not 0 <= unit < values.shape[1]]
            if wrong or not units:
                raise wrong_value("units", f"numbers from 0 to {values.shape[1] - 1}", wrong or "none")
            chosen = np.array(list(units), dtype=np.int64)
        if target is not None:
            shares = self._contributions(values, target)
            if units is None:
                chosen = np.argsort(-shares, kind="stable")[:top]
        rows = self._rows(values[:, chosen], [f"unit {unit}" for unit in chosen.tolist()], minimal_effect)
        found = [
            replace(row, unit=int(unit), contribution=None if shares is None else float(shares[unit]))
            for row, unit in zip(rows, chosen.tolist(), strict=True)
        ]
        return found if units is not None or target is not None else _strongest(found)[:top]

    def directions(
        self, layer: str, directions: int | Sequence[str] | Mapping[str, Sequence[float]], minimal_effect: float
    ) -> list[UnitRow]:
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
        values, (first, _) = self._activations(layer), halves(len(self._plan.captions))
        named = self._plan.asked.named
        vectors = chosen_directions(directions, values[first], named[first], self._question.concepts.names)
        rows = self._rows(values @ np.stack(list(vectors.values()), 1), list(vectors), minimal_effect)
        return [replace(row, unit=number) for number, row in enumerate(rows)]

    def _rows(self, values: np.ndarray, names: Sequence[str], minimal_effect: float) -> list[UnitRow]:
        return feature_rows(self._plan.asked, self._question.concepts.names, values, names, minimal_effect, self._level)

    @torch.no_grad()
    def _activations(self, layer: str) -> np.ndarray:
        """Return the mean over positions of every unit, float64 [pictures, units]."""
        classifier, pool = self._question.readout.classifier, self._question.pool
        name = classifier.resolve_layer(layer)
        if name not in self._known:
            layout, parts = layout_of(cast(nn.Module, classifier.model), name), []
            for levels in pool.pictures(self._plan.stage, self._plan.captions, 0, len(self._plan.captions)):
                pixels = pool.as_pixels(levels)
                activation = classifier.respond(pixels, [name]).activations[name]
                axis = channel_axis(activation.shape, layout, pixels.shape[2:])
                if axis is None:
                    raise wrong_value("layer", "one whose modules show the axis of its units", list(activation.shape))
                means = activation.movedim(axis, 1)
                parts.append(means.reshape(len(pixels), means.shape[1], -1).mean(2).double().cpu().numpy())
            self._known[name] = np.concatenate(parts)
        return self._known[name]

    @torch.no_grad()
    def _contributions(self, values: np.ndarray, target: str) -> np.ndarray:
        """Return weight x activation of every unit for a class, over the pictures that are answered with the class."""
        classifier, pool = self._question.readout.classifier, self._question.pool
        weights, index = class_weights(classifier, target, values.shape[1]), classifier.label_index(target)
        pictures = pool.pictures(self._plan.stage, self._plan.captions, 0, len(self._plan.captions))
        hits = [(classifier(pool.as_pixels(levels)).argmax(1) == index).cpu().numpy() for levels in pictures]
        answered = np.concatenate(hits)
        return np.asarray(weights * values[answered if answered.any() else slice(None)].mean(0))


def _strongest(rows: list[UnitRow]) -> list[UnitRow]:
    return sorted(rows, key=lambda row: -np.nan_to_num(abs(row.effect)))
