"""The values that a user may pass as a target."""

from torch import Tensor, nn

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.targets.base import FunctionTarget, Target
from diffexplain_fast.targets.classes import ClassProbability
from diffexplain_fast.targets.formulas import NOTHING, WANTED, Written, is_formula
from diffexplain_fast.targets.neurons import read_neuron
from diffexplain_fast.targets.numbers import whole_number


def as_target(x: object) -> Target:
    """Return the target that a user passed or named.

    Args:
        x: a class index or label (the target is its probability, or an output of a regression), "layer:unit" or
            "layer:unit,row,column" (that neuron, unless it is a label), a formula such as "logit:boat +
            0.5*neuron:layer4:17" (unless it is a label), a target, or a function of a ``Response`` that returns scores
            [B].

    Raises:
        TypeError: a value of another kind.
        ValueError: None; a tensor that is not a scalar. An empty text is refused when it is bound to a classifier of
            which it is no label.
    """
    if isinstance(x, Target):
        return x
    if isinstance(x, type | nn.Module) or hasattr(x, "label_index"):
        raise wrong_type("target", f"{WANTED}, already created", x)
    if callable(x):
        return FunctionTarget(x)
    if x is None:
        raise wrong_value("target", WANTED, NOTHING)
    if isinstance(x, str):
        if is_formula(x) or not x.strip():  # an empty text may be a label
            return Written(x)
        return read_neuron(x, may_be_label=True) or ClassProbability(x, bare=True)
    if isinstance(x, Tensor) and x.ndim != 0:
        raise wrong_value("target", "a scalar class index", f"a tensor of shape {list(x.shape)}")
    return ClassProbability(whole_number("target", x, WANTED), bare=True)
