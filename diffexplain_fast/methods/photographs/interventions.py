"""Interventions of the user's own, such as a watermark: each picture with and without, every class an outcome."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.readout import Readout

Intervention = Callable[[Tensor], Tensor]
"""A picture [3, H, W] in [0, 1] to the changed picture."""

MIRRORED, BLANK = "mirrored", "blank"
_BATCH = 16
_CHANGED = 1e-4
"""Difference of a pixel from which it is changed."""
_FAR = 10.0
"""Size of a number from which a picture is not one in [0, 1] that was made brighter, but one in [0, 255]."""


@dataclass(frozen=True)
class Paired:
    """What was said of pictures with and without an intervention.

    Attributes:
        name: of the intervention.
        change: float [pictures, targets]: value with it minus value without.
        with_it: bool [pictures, targets], whether a changed picture is answered with the target.
        without: the same of the pictures as they are.
        changed: share of the pictures that the intervention has changed.
    """

    name: str
    change: np.ndarray
    with_it: np.ndarray
    without: np.ndarray
    changed: float


def checked_interventions(given: object) -> dict[str, Intervention]:
    """Return the interventions that a user has given, checked.

    Raises:
        TypeError: something else than a dict from names to functions.
        ValueError: none, a name that the rows of an audit cannot hold, or one that a placebo of another has.
    """
    if not isinstance(given, Mapping) or any(not callable(one) for one in given.values()):
        raise wrong_type("interventions", "a dict from names to functions of a picture [3, H, W]", given)
    if not given or any(not isinstance(name, str) or not name.strip() or ":" in name for name in given):
        raise wrong_value("interventions", "at least one, with names without ':'", list(given))
    if twice := [placebo for name in given for placebo in placebo_names(name) if placebo in given]:
        raise wrong_value("interventions", "names that no placebo of another intervention has", repr(twice[0]))
    return dict(given)


def check_functions(interventions: Mapping[str, Intervention], pixels: Tensor) -> None:
    """Try every intervention on pictures, so that one that fails does so before anything else is done.

    Args:
        interventions: name to function.
        pixels: pictures [B, 3, H, W] in [0, 1].

    Raises:
        ValueError: an intervention that fails, or returns something else than a picture.
    """
    for name, function in interventions.items():
        _applied(name, function, pixels)


def paired_answers(
    parts: Iterable[Tensor],
    readout: Readout,
    interventions: Mapping[str, Intervention],
    report: Callable[[int], None],
) -> list[Paired]:
    """Change every picture in every way, ask the classifier about each, and do the same for placebos.

    A placebo is the intervention on the picture turned upside down and mirrored, turned back, so that a mark stands
    mirrored at the opposite place; and a blank one, which adds its mean change to the pixels that it changes.

    Args:
        parts: pictures [B, 3, H, W] in [0, 1], some at a time.
        readout: the classifier and its targets.
        interventions: name to function.
        report: receives the number of pictures that are done.

    Returns:
        Each intervention, followed by its two placebos.

    Raises:
        ValueError: an intervention that fails, returns something else than a picture, or changes no picture.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    before: list[tuple[np.ndarray, np.ndarray]] = []
    for part in parts:
        for start in range(0, len(part), _BATCH):
            pixels = part[start : start + _BATCH]
            before.append(readout(pixels))
            for name, function in interventions.items():
                for label, pictures in _variants(name, function, pixels):
                    moved = (pictures - pixels).abs().amax((1, 2, 3)) > _CHANGED
                    found.setdefault(label, []).append((*readout(pictures), moved.cpu().numpy()))
            report(sum(len(values) for values, _ in before))
    values, hits = (np.concatenate(column) for column in zip(*before, strict=True))
    results = []
    for label, kept in found.items():
        after, with_it, changed = (np.concatenate(column) for column in zip(*kept, strict=True))
        if label in interventions and not changed.any():
            raise wrong_value(f"interventions, {label}", "a function that changes pictures", "no picture that changed")
        results.append(Paired(label, after - values, with_it, hits, float(changed.mean())))
    return results


def placebo_names(name: str) -> tuple[str, str]:
    """Return what the placebos of an intervention are called."""
    return f"{name}, {MIRRORED}", f"{name}, {BLANK}"


def _variants(name: str, function: Intervention, pixels: Tensor) -> list[tuple[str, Tensor]]:
    changed = _applied(name, function, pixels)
    mirrored = _applied(name, function, pixels.flip(-1, -2)).flip(-1, -2)
    change = changed - pixels
    where = (change.abs().amax(1, keepdim=True) > _CHANGED).to(change)
    mean = (change * where).sum((2, 3), keepdim=True) / where.sum((2, 3), keepdim=True).clamp(min=1)
    blank = (pixels + mean * where).clamp(0, 1)
    return [(name, changed), *zip(placebo_names(name), (mirrored, blank), strict=True)]


def _no_picture(given: object, shape: torch.Size) -> str:
    """Return what something is that is no picture, or an empty text; a little beyond [0, 1] is cut off later."""
    if not isinstance(given, Tensor):
        return type(given).__name__
    if given.shape != shape or not given.is_floating_point():
        return f"{list(given.shape)} in {given.dtype}"
    size = float(given.abs().max())
    return "" if size <= _FAR else f"numbers up to {size:.4g}"  # NaN is not at most anything


@torch.no_grad()
def _applied(name: str, function: Intervention, pixels: Tensor) -> Tensor:
    try:
        found = [function(picture.clone()) for picture in pixels]
    except Exception as error:
        raise wrong_value(f"interventions, {name}", "a function of a picture [3, H, W]", f"{error!r}") from error
    for got in filter(None, (_no_picture(one, pixels.shape[1:]) for one in found)):
        raise wrong_value(f"interventions, {name}", f"a finite picture {list(pixels.shape[1:])} in [0, 1]", got)
    return torch.stack([one for one in found if isinstance(one, Tensor)]).to(pixels).clamp(0, 1)
