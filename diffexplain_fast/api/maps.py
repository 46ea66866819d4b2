"""Maps of pixels, for tools that measure maps: quantus, and captum's methods for any target of this package."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from diffexplain_fast.api.documented import arguments_of, names_nearest
from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.editing.reconstruction import checked_captions
from diffexplain_fast.environment import check_device
from diffexplain_fast.errors import callers_level, describe, wrong_type, wrong_value
from diffexplain_fast.methods.diffex.gradcam import gradcam, scores
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.targets import as_target

__all__ = ["explain_func", "gradcam", "scores"]

_BEYOND = 0.5
"""How far a pixel may lie outside of [0, 1]: metrics add noise to pictures, and a wrong mean or std moves them more."""


@names_nearest(arguments_of(Explainer.attribute, "images", "target"))
def explain_func(
    model: nn.Module,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    pipeline: object = "tinyworld",
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    output: str = "softmax",
    seed: int = 0,
    device: torch.device | str | None = None,
    **options: object,
) -> np.ndarray:
    """Return the map of each picture, as quantus calls an ``explain_func``; see ``Attribution.map``.

    Args:
        model: module from ``inputs`` to logits [B, C].
        inputs: pictures [B, 3, H, W] as the model takes them, with the ratio of the pipeline's sides.
        targets: index of a class for each picture [B].
        pipeline: see ``Explainer``; an object that is loaded already saves the loading at every call.
        mean: of each colour, which the inputs' normalisation has taken away; zeros for pixels in [0, 1].
        std: of each colour, by which the inputs' normalisation has divided.
        labels: names of the classes.
        captions: see ``Explainer.attribute``.
        output: meaning of the model's numbers, see ``Classifier``.
        seed: of all noise.
        device: device of the pipeline that is loaded by name, and of the pictures; None for that of the model.
        **options: of ``Explainer.attribute``, such as ``taxonomy``, ``editor`` and ``budget``. The pictures of each
            class are an attribution of their own, with the whole budget, and its warnings number them by themselves.

    Returns:
        float32 [B, 1, H, W], in units of the target's score. The sum over the pixels of a picture is the mean drop of
        the score over its edits. A picture that shows all concepts already has zeros, because there nothing changes the
        score. One of which nothing was edited for another reason, such as a budget that ended before it or a caption
        that is too long, has NaN, so that nobody takes it for a picture without a drop. A warning names both.

    Raises:
        TypeError: an argument of the wrong kind, or one that does not exist.
        ValueError: arrays of another shape, pictures that ``mean`` and ``std`` do not bring to [0, 1], and as
            ``Explainer.attribute``.
    """
    given, wanted = _array("inputs", inputs), _array("targets", targets)
    if not isinstance(model, nn.Module):
        raise wrong_type("model", "a module from inputs to logits", model)
    if given.ndim != 4 or given.shape[1] != 3 or not len(given):
        raise wrong_value("inputs", "pictures [B, 3, H, W], at least one", f"shape {list(given.shape)}")
    if wanted.shape != given.shape[:1] or wanted.dtype.kind not in "iu":
        raise wrong_value("targets", f"{len(given)} class indices", f"{wanted.dtype} of shape {list(wanted.shape)}")
    check_device(device)
    if device is None:
        device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    centres, spreads = _colours("mean", mean), _colours("std", std)
    centre, spread = (torch.tensor(part, device=device).view(3, 1, 1) for part in (centres, spreads))
    pixels = torch.from_numpy(np.ascontiguousarray(given)).to(device).float() * spread + centre
    if not bool(((pixels >= -_BEYOND) & (pixels <= 1 + _BEYOND)).all()):
        got = f"{float(pixels.min()):.3g} to {float(pixels.max()):.3g}"
        raise wrong_value("inputs", "pictures that mean= and std= bring to [0, 1]", got)
    loaded = load_pipeline(pipeline, device=device if isinstance(pipeline, str | Path) else None)
    said = checked_captions(captions, len(given), loaded)
    size, (height, width) = (given.shape[2], given.shape[3]), loaded.image_size
    if size[0] * width != size[1] * height:
        wanted_size = f"pictures with the ratio of the pipeline's {height} x {width}"
        raise wrong_value("inputs", wanted_size, f"{size[0]} x {size[1]}")
    classifier = Classifier(model, Preprocess(size, mean=centres, std=spreads), labels, output=output)
    found, without = np.zeros((len(given), 1, *size), np.float32), list[int]()
    with Explainer(loaded, classifier, seed=seed, device=device) as explainer:
        run: Callable[..., Attribution] = explainer.attribute  # it checks the kind of every option itself
        for index in np.unique(wanted):  # all of them, before the first is edited
            as_target(int(index)).bind(classifier)
        for index in np.unique(wanted):
            places = np.flatnonzero(wanted == index)
            result = run(pixels[places].clamp(0, 1), int(index), captions=said and [said[i] for i in places], **options)
            found[places, 0] = [_resized(_map(result, number), size) for number in range(len(places))]
            without += [int(place) for number, place in enumerate(places) if not result.edits(number)]
    _warn(found, without)
    return found


def _map(result: Attribution, number: int) -> np.ndarray:
    """Return the map of a picture; where nothing was edited 0 if it shows all concepts already, else NaN."""
    if result.edits(number):
        return result.map(number)
    shown = [] if result.shown is None else result.shown[number]
    width, height = result.images[number].size
    return np.full((height, width), 0.0 if len(shown) == len(result.taxonomy.concepts) else np.nan)


def _warn(found: np.ndarray, without: Sequence[int]) -> None:
    """Warn of maps [B, 1, H, W] of pictures without an edit, by the numbers of these."""
    unknown = [place for place in without if np.isnan(found[place]).any()]
    shown = [place for place in without if place not in unknown]
    for places, wanted, value in (
        (shown, "pictures that do not show all concepts already", "0"),
        (unknown, "pictures of which the budget and the captions let a concept be edited", "NaN"),
    ):
        if places:
            got = f"others, whose maps are {value}: {', '.join(map(str, places))}"
            warnings.warn(describe("inputs", wanted, got), stacklevel=callers_level())


def _array(argument: str, given: object) -> np.ndarray:
    """Return an array, a tensor or a list as an array of numbers."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
    try:
        found = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise wrong_value(argument, "an array of numbers", f"{type(given).__name__}: {error}") from error
    if found.dtype.kind not in "fiub":
        raise wrong_value(argument, "an array of numbers", f"one of {found.dtype}")
    return found


def _colours(argument: str, given: object) -> tuple[float, ...]:
    """Return a number for each colour; no number of "std" is 0."""
    found = _array(argument, given)
    if found.shape != (3,) or not np.isfinite(found).all():
        raise wrong_value(argument, "three finite numbers, one for each colour", given)
    if argument == "std" and not found.all():
        raise wrong_value(argument, "three numbers that are not 0", given)
    return tuple(map(float, found))


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map [H, W] in another size, with the same sum."""
    scale = values.size / (size[0] * size[1])
    return interpolate(torch.from_numpy(values)[None, None], size, mode="area")[0, 0].numpy() * scale
