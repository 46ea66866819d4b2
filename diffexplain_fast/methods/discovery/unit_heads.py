"""The weights with which a classifier's last linear layer reads the units of a layer for one class."""

import numpy as np
from torch import nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.classifier import Classifier


def class_weights(classifier: Classifier, target: str, units: int) -> np.ndarray:
    """Return the weight of every unit for a class, float64 [units].

    Args:
        classifier: whose last linear layer, or convolution of one pixel, reads the units.
        target: label or index of the class.
        units: how many there are.

    Raises:
        UnknownNameError: no such class.
        ValueError: no such layer: the units are not those of the layer before the last one.
    """
    index, found = classifier.label_index(target), []
    for module in classifier.model.modules() if isinstance(classifier.model, nn.Module) else ():
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear | nn.Conv2d) or weight is None:
            continue
        flat = weight.detach().reshape(weight.shape[0], -1)
        if flat.shape[1] == units and flat.shape[0] > index:
            found.append(flat[index])
    if not found:
        wanted = f"the layer before the last linear one, for weights of {target}"
        raise wrong_value("layer", wanted, f"one of {units} units that no linear layer reads")
    return np.asarray(found[-1].double().cpu())
