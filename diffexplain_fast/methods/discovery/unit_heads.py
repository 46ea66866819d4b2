"""The last linear layer of a classifier: with which weights a class reads units, and whether it reads those of a layer.

Hooks on two pictures of noise tell it, because the order of modules says nothing of who reads whom.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.methods.discovery.linear_runs import Run, run_of, units_in
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets.neurons import channel_axis, layout_of

_ALIKE = 1e-3
"""Largest difference of numbers that are the same but for rounding, as a share of the largest; of half precision, eight
steps of rounding."""


@dataclass(frozen=True)
class Head:
    """What reads the units for a class.

    Attributes:
        module: the last linear layer, or convolution of one pixel.
        weights: of every unit, float64 [units]; minus those of the only row for the second of two labels.
    """

    module: nn.Module
    weights: np.ndarray


def head_of(classifier: Classifier, target: str, layer: str, pixels: Tensor) -> Head:
    """Return what reads the units of a layer for a class.

    Args:
        classifier: of a module.
        target: label or index of the class.
        layer: dotted name of the layer whose units the last linear layer reads, at most after steps that keep the units
            apart: pooling, one place of many, flattening, dropout, an activation, normalisation with fixed numbers.
        pixels: one picture [1, 3, H, W], for its size and device.

    Raises:
        UnknownNameError: no such class.
        ValueError: a layer that the last linear layer does not read, or reads with more than it; a classifier whose
            logits are not the numbers of a linear layer, or one logit with its negative.
    """
    index = classifier.label_index(target)
    wanted = f"the layer before the last linear one, whose units it reads one by one, for weights of {target}"
    with torch.inference_mode(False), torch.enable_grad():
        noise = torch.rand((2, *pixels.shape[1:]), generator=torch.Generator().manual_seed(0)).to(pixels)
        run = run_of(classifier, layer, noise[:1])
        found = _row(run, index)
        if found is None:
            raise wrong_value("target", "a class whose logit is a row of a linear layer", f"{target}, which is none")
        module, weights = found
        again = run_of(classifier, layer, noise[1:], run.given[-1].detach())
        took, moved = (units_in(module, each.linear[module][0]) for each in (run, again))
        if not _alike(took, moved) or not _one_by_one(classifier, layer, run, took, noise):
            raise wrong_value("layer", wanted, f"{layer}, which it does not read, or not alone")
    return Head(module, np.asarray(weights.detach().double().cpu()))


def _row(run: Run, index: int) -> tuple[nn.Module, Tensor] | None:
    """Return the last linear layer whose numbers are the logits, but for a factor, and the weights of a class in it.

    Where a softmax follows, only differences between logits are known, so that the mean of the row is taken away.
    """
    classes = run.logits.shape[1]
    for module, (_, gave) in reversed(run.linear.items()):
        rows = cast(Tensor, module.weight).flatten(1)
        if len(rows) not in ({classes, 1} if classes == 2 else {classes}):
            continue
        score = run.logits[:, index] - (run.logits.mean(1) if len(rows) > 1 else 0)
        (slopes,) = torch.autograd.grad(score.sum(), [gave], retain_graph=True, allow_unused=True)
        if slopes is None:
            continue
        slope = units_in(module, slopes)[0]
        if len(rows) == 1:
            return module, rows[0] * slope.sign()
        wanted = torch.eye(classes).to(slope)[index] - 1 / classes
        if slope[index] > 0 and _alike(slope / slope[index], wanted / wanted[index]):
            return module, rows[index]
    return None


def _one_by_one(classifier: Classifier, layer: str, run: Run, took: Tensor, pixels: Tensor) -> bool:
    """Return whether every unit that is read depends on the same unit of the layer only."""
    given, model = run.given[-1], cast(nn.Module, classifier.model)
    axis = channel_axis(given.shape, layout_of(model, layer), pixels.shape[2:])
    if axis is None or given.shape[axis] != took.shape[1] or not took.requires_grad or not given.requires_grad:
        return False
    found = []
    for seed in (1, 2):
        weights = 1 + torch.rand(took.shape, generator=torch.Generator().manual_seed(seed)).to(took)
        (slopes,) = torch.autograd.grad((took * weights).sum(), [given], retain_graph=True, allow_unused=True)
        if slopes is None or not slopes.any():
            return False
        found.append(slopes.movedim(axis, 1).reshape(*weights.shape, -1) / weights[..., None])
    return _alike(*found)


def _alike(first: Tensor, second: Tensor) -> bool:
    first, second = first.detach(), second.detach()
    most = max(float(first.abs().max()), float(second.abs().max()))
    share = max(_ALIKE, 8 * torch.finfo(first.dtype).eps)
    return bool(((first - second).abs() <= share * most).all())
