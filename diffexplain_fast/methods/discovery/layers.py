"""What the units of a classifier's layers answer to the pictures of a trial."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.methods.discovery.linear_runs import inputs_of
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.targets.neurons import channel_axis, layout_of
from diffexplain_fast.targets.outputs import is_hit


class Layers:
    """The layers of the audited classifier, in the pictures of a trial; each layer is asked once.

    Args:
        question: pool and classifier.
        plan: the captions of the pictures.
    """

    def __init__(self, question: Question, plan: Plan) -> None:
        self._classifier, self._pool, self._plan = question.readout.classifier, question.pool, plan
        self._known: dict[str, np.ndarray] = {}

    def units(self, layer: str) -> tuple[str, int]:
        """Return the name of a layer and its number of units, which one black picture tells.

        Raises:
            UnknownNameError: no such layer.
            ValueError: a layer whose modules do not show the axis of its units, or whose rows are not the images.
        """
        name = self._classifier.resolve_layer(layer)
        return name, self._means(name, self.blank()).shape[1]

    def activations(self, name: str) -> np.ndarray:
        """Return the mean over positions of every unit, float64 [pictures, units]."""
        if name not in self._known:
            self._known[name] = np.concatenate([self._means(name, pixels) for pixels in self._pictures()])
        return self._known[name]

    @torch.no_grad()
    def read(self, module: nn.Module, target: str) -> np.ndarray:
        """Return the mean of what a linear layer takes, over the pictures that are answered with a class.

        The pictures count as much as they do in the trial; without any that is answered with the class, all count.

        Args:
            module: the linear layer, or convolution of one pixel.
            target: label of the class.

        Returns:
            float64 [units].
        """
        index = self._classifier.label_index(target)
        hits: list[np.ndarray] = []
        with inputs_of(module) as taken:
            for pixels in self._pictures():
                response = self._classifier.respond(pixels)
                taken[len(hits) :] = taken[-1:]
                hits.append(is_hit(response.logits, index, response.output).cpu().numpy())
        values = np.concatenate([part.double().cpu().numpy() for part in taken])
        rows, weights = np.concatenate(hits), self._plan.asked.weights
        rows = rows if rows.any() else np.ones_like(rows)
        return np.asarray(np.average(values[rows], 0, None if weights is None else weights[rows]))

    def blank(self) -> Tensor:
        """Return one black picture [1, 3, H, W]."""
        return self._pool.as_pixels(self._pool.blank())

    @torch.no_grad()
    def _means(self, name: str, pixels: Tensor) -> np.ndarray:
        response = self._classifier.respond(pixels, [name])
        activation = response.activations[name]
        if name in response.apart:
            raise wrong_value("layer", "one whose output has one row for each image first", list(activation.shape))
        axis = channel_axis(
            activation.shape, layout_of(cast(nn.Module, self._classifier.model), name), pixels.shape[2:]
        )
        if axis is None:
            raise wrong_value("layer", "one whose modules show the axis of its units", list(activation.shape))
        means = activation.movedim(axis, 1)
        return np.asarray(means.reshape(len(pixels), means.shape[1], -1).mean(2).double().cpu())

    def _pictures(self) -> Iterator[Tensor]:
        pool, plan = self._pool, self._plan
        return map(pool.as_pixels, pool.pictures(plan.stage, plan.captions, 0, len(plan.captions)))
