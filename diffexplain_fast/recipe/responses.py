"""What every channel of two late layers of a classifier responds to, measured on rendered scenes."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe.levels import ROWS, answers, layouts
from diffexplain_fast.storage import load_tensors, save_tensors_atomic
from diffexplain_fast.tinyworld.store import classifier_folder

FILE = "units.safetensors"
SEEDS = range(2_700_000, 2_700_096)
_LATE = re.compile(r"(^|\.)(stages|blocks)\.\d+$")
Units = dict[str, dict[str, Tensor]]
"""Layer to attribute value, such as "background:snow", to the mean response of every channel [C], float32."""


def units(classifier: str | Classifier) -> Units:
    """Return the mean response of every channel of two layers to every attribute value.

    Scenes are counterfactual: one layout with every value of an attribute in turn, all else equal, so that the
    difference of two values of one attribute is their effect. What else the layouts show has every value that a caption
    can name equally often, as in an audit's pictures. A response is averaged over the places of a channel.

    Args:
        classifier: the name of a shipped classifier, whose responses lie beside its truth, or a classifier of the tiny
            world, which is measured (some seconds).

    Returns:
        Name of a layer of the classifier to attribute value, such as "background:snow" or "mark:watermark", to
        responses [C].

    Raises:
        UnknownNameError: no such shipped classifier.
        TypeError: neither a name nor a classifier.
        ValueError: a classifier whose layers are not known.
    """
    if isinstance(classifier, Classifier):
        return measure_units(classifier)
    if not isinstance(classifier, str):
        raise wrong_type("classifier", "the name of a shipped classifier, or a Classifier", classifier)
    path = classifier_folder(classifier) / FILE
    if not path.exists():  # shipped before units were
        return measure_units(Classifier.from_pretrained(f"tinyworld/{classifier}"))
    return read_units(path)


def unit_layers(model: object) -> list[str]:
    """Return the names of the two last stages or blocks of a network of the recipe.

    Raises:
        ValueError: it has no two.
    """
    names = [name for name, _ in model.named_modules() if _LATE.search(name)] if isinstance(model, nn.Module) else []
    if len(names) < 2:
        raise wrong_value("classifier", "a network of the recipe, with stages or blocks", type(model).__name__)
    return names[-2:]


def measure_units(classifier: Classifier, seeds: range = SEEDS) -> Units:
    """Render the scenes of every seed and return the mean responses; see ``units``."""
    layers = unit_layers(classifier.model)
    device = classifier.device or torch.device("cpu")

    widths: list[int] = []

    def ask(pixels: Tensor) -> Tensor:
        found = classifier.respond(pixels, layers).activations
        parts = [_over_places(found[layer]) for layer in layers]
        widths[:] = [part.shape[1] for part in parts]
        return torch.cat(parts, 1)

    each = [answers(ask, layout.pictures, device)[layout.rows] for layout in layouts(seeds, even=True)]
    parts = torch.from_numpy(np.mean(each, axis=0)).float().split(widths, 1)
    names = [":".join(row) for row in ROWS]
    return {layer: dict(zip(names, part.clone(), strict=True)) for layer, part in zip(layers, parts, strict=True)}


def _over_places(activation: Tensor) -> Tensor:
    """Mean response [B, C] of maps [B, C, H, W] or tokens [B, T, C]."""
    return activation.mean((2, 3)) if activation.ndim == 4 else activation.mean(1)


def write_units(path: Path, found: Units) -> None:
    """Write responses in half precision."""
    save_tensors_atomic(
        path, {f"{layer}/{row}": values.half() for layer, rows in found.items() for row, values in rows.items()}
    )


def read_units(path: Path) -> Units:
    """Read responses that ``write_units`` wrote."""
    found: Units = {}
    for key, values in load_tensors(path).items():
        layer, _, row = key.partition("/")
        found.setdefault(layer, {})[row] = values.float()
    return found
