"""The kind of output of a classifier: stated by its maker, or found from its answers to a few pictures."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.functional import interpolate

from diffexplain_fast.errors import callers_level, wrong_type, wrong_value
from diffexplain_fast.targets.outputs import INDEPENDENT, OUTPUTS, PROBABILITIES, REGRESSION, SIGMOID, SOFTMAX

_PROBLEM_TYPES = {
    "single_label_classification": SOFTMAX,
    "multi_label_classification": SIGMOID,
    "regression": REGRESSION,
}
_CERTAIN = (SOFTMAX, SIGMOID, REGRESSION)
"""Kinds that no answer can contradict, because every number is a possible answer."""
_COARSE = 4
_WILD = 50.0
"""Factor that gives pixels far outside of any picture: answers that stay in [0, 1] even then are squashed, not
small."""
_ROUNDING = {torch.float16: 0.02, torch.bfloat16: 0.05}
"""Largest difference from 1 of a sum of probabilities, by dtype; other dtypes use ``_ROUNDING_SINGLE``."""
_ROUNDING_SINGLE = 1e-3
_PASSING = ("View", "Squeeze", "Unsqueeze", "Clone", "ToCopy", "Alias", "Slice", "Select", "Reshape", "Permute", "T0")
"""Steps of a graph that move numbers but do not change them."""
_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Linear", "MkldnnLinear", "Convolution")
"""Steps whose results can be any number, so that results between 0 and 1 are chance."""


def stated_output(output: object, model: object) -> str | None:
    """Return the kind of output that the user or else the model's configuration states; None if neither does.

    Args:
        output: the user's argument, or None.
        model: model that may have a transformers configuration with a ``problem_type``.

    Raises:
        TypeError: an output that is not text.
        ValueError: a kind that does not exist.
    """
    wanted = " or ".join(f'"{kind}"' for kind in OUTPUTS)
    if output is not None:
        if not isinstance(output, str):
            raise wrong_type("output", wanted, output)
        if output not in OUTPUTS:
            raise wrong_value("output", wanted, repr(output))
        return output
    problem = getattr(getattr(model, "config", None), "problem_type", None)
    if not isinstance(problem, str):
        return None
    if problem not in _PROBLEM_TYPES:
        raise wrong_value("output", f"{wanted}, because the model's problem_type is none of these", repr(problem))
    return _PROBLEM_TYPES[problem]


def settled_output(
    stated: str | None, run: Callable[[Tensor], Tensor], pixels: Tensor, labels: Sequence[str] | None, name: str
) -> tuple[str, int]:
    """Return the kind of output of a classifier; warn if it is not stated and not softmax.

    Args:
        stated: from ``stated_output``.
        run: function from pixels [B, 3, H, W] to the output of the model [B, C].
        pixels: the probe pictures get the shape, dtype and device of these pixels.
        labels: names of the classes, None if they have none.
        name: name of the classifier in the warning.

    Returns:
        One of ``OUTPUTS``, and the number of outputs C.

    Raises:
        ValueError: a stated kind that the answers contradict, or labels that do not fit it.
    """
    pictures = _pictures(pixels)
    with torch.random.fork_rng(devices=[pixels.device] if pixels.device.type == "cuda" else []):
        with torch.no_grad():  # a model may draw random numbers
            values = torch.cat([run(batch) for batch in (pictures[:1] if stated in _CERTAIN else pictures)])
        tolerance, columns = _ROUNDING.get(values.dtype, _ROUNDING_SINGLE), values.shape[1]
        values = values.double().cpu()
        values = values[values.isfinite().all(1)]
        kind = stated or _from_answers(values, tolerance, run, pixels)
    _check(kind, values, columns, tolerance)
    if labels is not None and len(labels) != columns and kind == REGRESSION:
        raise wrong_value("labels", "one for each of the 1 outputs", f"{len(labels)} labels")
    if stated is None and kind != SOFTMAX:
        warnings.warn(_warning(kind, columns, labels, name), UserWarning, stacklevel=callers_level())
    return kind, columns


def _from_answers(values: Tensor, tolerance: float, run: Callable[[Tensor], Tensor], pixels: Tensor) -> str:
    classes = values.shape[1]
    if len(values) and bool(((values >= 0) & (values <= 1)).all()):
        # A head that is always certain answers only 0 or 1: then the last step of its graph decides.
        last, between = _last_step(run, pixels), bool(((values > 0) & (values < 1)).any())
        if classes > 1 and _add_up(values, tolerance) and (between or last.startswith("Softmax")):
            return PROBABILITIES
        if last.startswith(("Sigmoid", "Hardsigmoid")):
            return INDEPENDENT
        if between and not last.startswith(_LINEAR) and _stay_inside(run, pixels):
            return INDEPENDENT
    return SIGMOID if classes == 1 else SOFTMAX


def _add_up(values: Tensor, tolerance: float) -> bool:
    return bool(((values.sum(1) - 1).abs() <= tolerance).all())


def _last_step(run: Callable[[Tensor], Tensor], pixels: Tensor) -> str:
    """Return the name of the last step of the graph of the answers, or an empty string without a graph."""
    first, *_ = _pictures(pixels)
    try:
        with torch.enable_grad():
            step: Node | None = run(first.clone().requires_grad_()).grad_fn
    except RuntimeError:  # for example weights that were created in inference mode
        step = None
    while step is not None and step.name().startswith(_PASSING) and step.next_functions:
        step = step.next_functions[0][0]
    return "" if step is None else step.name()


def _stay_inside(run: Callable[[Tensor], Tensor], pixels: Tensor) -> bool:
    """Return whether answers to pictures far outside of [0, 1] are between 0 and 1 too."""
    try:
        with torch.no_grad():
            values = torch.cat([run((2 * _WILD) * (batch - 0.5)) for batch in _pictures(pixels)])
    except Exception:  # the user's code may refuse such pixels with any error
        return False
    return bool(((values >= 0) & (values <= 1)).all())


def _check(output: str, values: Tensor, columns: int, tolerance: float) -> None:
    """Refuse answers that contradict the kind of output."""
    if columns == 1 and output in (SOFTMAX, PROBABILITIES):
        wanted = f'"{SIGMOID}", "{INDEPENDENT}" or "{REGRESSION}" for a model of one output'
        raise wrong_value("output", wanted, f'"{output}", in which one output is always certain')
    if output in _CERTAIN or not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if low < -tolerance or high > 1 + tolerance:
        wanted = f'probabilities from 0 to 1 for "{output}"'
        raise wrong_value("output", wanted, f"a model that answers {low:.4g} to {high:.4g} to probe pictures")
    if output == PROBABILITIES and not _add_up(values, tolerance):
        sums = values.sum(1)
        wanted = f'probabilities that add up to one for "{output}", or output="{INDEPENDENT}"'
        raise wrong_value("output", wanted, f"sums of {float(sums.min()):.4g} to {float(sums.max()):.4g}")


def _warning(kind: str, columns: int, labels: Sequence[str] | None, name: str) -> str:
    """Return the warning for a kind of output that was found from the answers."""
    first = "its only class" if labels is None else f"label 0, {labels[0]!r}"
    if labels is not None and columns == 1 and len(labels) > 1:
        first += f", and label 1, {labels[1]!r}, for its opposite"
    if kind == SIGMOID:
        meaning = f"the one logit of {name} is taken for the log-odds of {first}"
        return f'output: {meaning}; output="{SIGMOID}" says so, output="{REGRESSION}" takes it for a number'
    if kind == PROBABILITIES:
        meaning, other = "probabilities that add up to one, as after a softmax", SOFTMAX
    elif columns == 1:
        meaning, other = f"the probability, as after a sigmoid, of {first}", SIGMOID
    else:
        meaning, other = "a probability of each class for itself, as after a sigmoid", SIGMOID
    taken = f"answers of {name} to probe pictures look like {meaning}, and are taken for it"
    return f'output: {taken}; output="{kind}" says so, output="{other}" takes them for logits'


def _pictures(pixels: Tensor) -> list[Tensor]:
    """Return batches like ``pixels`` of pictures that are black, white, noise, and noise with areas."""
    batch, _, height, width = pixels.shape
    generator = torch.Generator("cpu").manual_seed(0)

    def noise(*size: int) -> Tensor:
        return torch.rand(1, 3, *size, generator=generator, dtype=torch.float32, device="cpu")

    fine = noise(height, width)
    areas = (fine + interpolate(noise(_COARSE, _COARSE), (height, width), mode="bilinear")) / 2
    pictures = torch.cat([torch.zeros_like(fine), torch.ones_like(fine), fine, areas]).to(pixels.device, pixels.dtype)
    rounds = -(-len(pictures) // batch)
    return list(pictures.repeat(-(-rounds * batch // len(pictures)), 1, 1, 1)[: rounds * batch].split(batch))
