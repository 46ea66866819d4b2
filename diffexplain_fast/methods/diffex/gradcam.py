"""What captum takes and gives: a target as a function of pixels, and Grad-CAM, with which edits are compared."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from diffexplain_fast.coloured import check_range
from diffexplain_fast.errors import describe, wrong_type, wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.hooked import uncompiled
from diffexplain_fast.models.layers import runs_hooks
from diffexplain_fast.models.undisturbed import undisturbed
from diffexplain_fast.targets import ClassLogit, ClassProbability, as_target


class LayerMethod(Protocol):
    """What is used of captum's ``LayerGradCam``."""

    def attribute(self, inputs: Tensor, *, relu_attributions: bool) -> Tensor:
        """Return the map [B, 1, h, w] of a layer."""


def scores(classifier: Classifier, target: object) -> Callable[[Tensor], Tensor]:
    """Return a target as a function of pixels [B, 3, H, W] in [0, 1] that returns scores [B], for captum's methods.

    ``captum.attr.Saliency(maps.scores(classifier, "logit:fish - logit:boat")).attribute(pixels)`` needs no ``target=``,
    because the function returns one number for each picture.

    Args:
        classifier: a ``Classifier``.
        target: as in ``Explainer.explain``.

    Raises:
        TypeError: a classifier or a target of another kind.
        ValueError: an unknown label, layer or unit.
    """
    if not isinstance(classifier, Classifier):
        raise wrong_type("classifier", "a Classifier (wrap a module: Classifier(module, labels=[...]))", classifier)
    bound = as_target(target).bind(classifier)

    def score(pixels: Tensor) -> Tensor:
        response = classifier.respond(pixels, bound.layers)
        with undisturbed(classifier.modules, bound):
            return bound(response)

    return score


def gradcam(classifier: Classifier, pixels: Tensor, target: object, layer: str | nn.Module | None = None) -> np.ndarray:
    """Return where a layer of a classifier holds what speaks for a target.

    The channels of the layer, weighted by the mean gradient of the target's score, are summed, what is negative becomes
    0, and the map is resized to the picture. It shows a place and not what there would have to be different, which
    ``Explainer.attribute`` says.

    Args:
        classifier: a ``Classifier`` of a module.
        pixels: pictures [B, 3, H, W] in [0, 1], at least one.
        target: as in ``Explainer.explain``, except that a class by its label or number means its logit.
        layer: dotted name or module with an output [B, C, h, w] through which the target's score passes; None for the
            last of these whose h and w exceed 1, which for a neuron is its own layer or one before it.

    Returns:
        float32 [B, H, W], of each picture from 0 to 1; all 0 where nothing speaks for the target.

    Raises:
        ImportError: captum is not installed; names the extra.
        TypeError: an argument of the wrong kind.
        ValueError: pixels out of [0, 1], an unknown label, layer or unit, a layer whose output has no place in the
            picture or through which the score does not pass, or no layer at all with such an output.

    Source: Selvaraju et al., Grad-CAM (arXiv 1610.02391), equations 1 and 2; ``LayerGradCam`` of captum.
    """
    if not isinstance(pixels, Tensor):
        raise wrong_type("pixels", "a tensor [B, 3, H, W] in [0, 1]", pixels)
    check_range("pixels", "values in [0, 1]", pixels)
    wanted = as_target(target)
    if isinstance(wanted, ClassProbability) and wanted.bare:
        wanted = ClassLogit(wanted.label)
    asked = scores(classifier, wanted)
    with torch.inference_mode(False), torch.enable_grad():
        given = pixels.detach().clone()
        classifier.settle(given)  # before hooks exist, which would see the probe pictures
        with uncompiled():  # which runs the hooks of captum, and ours
            method = _method(asked, _chosen(classifier, asked, given[:1], layer))
            found = method.attribute(given.requires_grad_(), relu_attributions=True).detach().float()
    found = interpolate(found, given.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    most = found.amax((1, 2), keepdim=True)
    scaled: np.ndarray = torch.where(most > 0, found / most, torch.zeros_like(found)).cpu().numpy()
    return scaled


def _method(asked: Callable[[Tensor], Tensor], layer: nn.Module) -> LayerMethod:
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise ImportError(
            describe("gradcam", "captum (pip install 'diffexplain-fast[captum]')", "no such package")
        ) from error
    method: LayerMethod = LayerGradCam(asked, layer)
    return method


def _chosen(
    classifier: Classifier, asked: Callable[[Tensor], Tensor], pixels: Tensor, layer: str | nn.Module | None
) -> nn.Module:
    """Return the layer of that name, or the last that finishes; the score of one picture passes through its map."""
    if not isinstance(classifier.model, nn.Module):
        raise wrong_type("classifier", "a Classifier of a module, which has layers", classifier.model)
    found: list[tuple[nn.Module, Tensor]] = []

    def look(module: nn.Module, _: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or output.ndim != 4 or len(output) > 1 or min(output.shape[-2:]) < 2:
            return None
        found.append((module, output))
        return output.clone()  # as captum does: the next module may work in place

    modules = dict(classifier.model.named_modules(remove_duplicate=False))
    wanted = (
        filter(runs_hooks, dict.fromkeys(modules.values()))
        if layer is None
        else [modules[classifier.resolve_layer(layer)]]
    )
    handles = [module.register_forward_hook(look) for module in wanted]
    try:
        score = asked(pixels.detach().clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    given = "none of this model" if layer is None else f"{layer}"
    if not found:
        raise wrong_value("layer", "one that returns a tensor [B, C, h, w] with h and w above 1", given)
    found = [(module, output) for module, output in found if output.requires_grad]
    slopes = _slopes(score, [output for _, output in found])
    passed = [module for (module, _), slope in zip(found, slopes, strict=True) if slope is not None]
    if not passed:
        raise wrong_value("layer", "one with a map [B, C, h, w] through which the target's score passes", given)
    return passed[-1]


def _slopes(score: Tensor, outputs: list[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of a score by every output, None where the score does not depend on it."""
    if not (outputs and score.requires_grad):
        return [None] * len(outputs)
    found: Sequence[Tensor | None] = torch.autograd.grad(score.sum(), outputs, allow_unused=True)
    return found
