"""What captum takes and gives: a target as a function of pixels, and Grad-CAM, with which edits are compared."""

from collections.abc import Callable
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
    return lambda pixels: bound(classifier.respond(pixels, bound.layers))


def gradcam(classifier: Classifier, pixels: Tensor, target: object, layer: str | nn.Module | None = None) -> np.ndarray:
    """Return where a layer of a classifier holds what speaks for a target.

    The channels of the layer, weighted by the mean gradient of the target's score, are summed, what is negative becomes
    0, and the map is resized to the picture. It shows a place and not what there would have to be different, which
    ``Explainer.attribute`` says.

    Args:
        classifier: a ``Classifier`` of a module.
        pixels: pictures [B, 3, H, W] in [0, 1], at least one.
        target: as in ``Explainer.explain``, except that a class by its label or number means its logit.
        layer: dotted name or module with an output [B, C, h, w]; None for the last whose h and w exceed 1.

    Returns:
        float32 [B, H, W], of each picture from 0 to 1; all 0 where nothing speaks for the target.

    Raises:
        ImportError: captum is not installed; names the extra.
        TypeError: an argument of the wrong kind.
        ValueError: pixels out of [0, 1], an unknown label, layer or unit, or a layer whose output has no place in the
            picture.

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
            method = _method(asked, _chosen(classifier, given, layer))
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


@torch.no_grad()
def _chosen(classifier: Classifier, pixels: Tensor, layer: str | nn.Module | None) -> nn.Module:
    """Return the layer of that name, or the last that finishes with a map; its output has places in any case."""
    if not isinstance(classifier.model, nn.Module):
        raise wrong_type("classifier", "a Classifier of a module, which has layers", classifier.model)
    found: list[nn.Module] = []

    def look(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and len(output) == 1 and min(output.shape[-2:]) > 1:
            found.append(module)

    modules = dict(classifier.model.named_modules(remove_duplicate=False))
    wanted = filter(runs_hooks, modules.values()) if layer is None else [modules[classifier.resolve_layer(layer)]]
    handles = [module.register_forward_hook(look) for module in wanted]
    try:
        classifier(pixels[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        given = "none of this model" if layer is None else f"{layer}"
        raise wrong_value("layer", "one that returns a tensor [B, C, h, w] with h and w above 1", given)
    return found[-1]
