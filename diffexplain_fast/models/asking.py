"""One run of the user's model: what it is given, and what it may answer."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from diffexplain_fast.errors import RefusedInputError, describe, first_line, wrong_type, wrong_value


def check_pixels(pixels: object, device: torch.device | None) -> None:
    """Refuse what are no pixels.

    Args:
        pixels: images [B, 3, H, W] of floating point.
        device: that of the model's weights, None if it has none.

    Raises:
        TypeError: no tensor.
        ValueError: another shape, dtype or device.
    """
    if not isinstance(pixels, Tensor):
        raise wrong_type("pixels", "a tensor [B, 3, H, W] in [0, 1]", pixels)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.numel() == 0:
        raise wrong_value("pixels", "shape [B, 3, H, W] with at least one image", list(pixels.shape))
    if not pixels.is_floating_point():
        raise wrong_value("pixels", "a floating point dtype, values in [0, 1]", pixels.dtype)
    if device not in (None, pixels.device):
        raise wrong_value("pixels", f"device {device}, that of the classifier", pixels.device)


def check_initialised(modules: Iterable[nn.Module]) -> None:
    """Refuse modules whose weights get their shapes in the first run, which would change the model.

    Args:
        modules: with all of their submodules.

    Raises:
        ValueError: a weight or buffer without a shape; names it.
    """
    for module in modules:
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if is_lazy(tensor):
                wanted = "weights that have their shapes (run the module once on pictures before)"
                raise wrong_value("model", wanted, f"{name} of {type(module).__name__}, which is not initialised")


def answer_of(
    model: Callable[..., object],
    preprocess: Callable[[Tensor], object] | None,
    pixels: Tensor,
    dtype: torch.dtype | None,
) -> object:
    """Return what a model answers to a copy of pixels, or its ``logits``.

    Args:
        model: module or function.
        preprocess: function from pixels to the input of the model, None if it takes pixels.
        pixels: images [B, 3, H, W].
        dtype: of the model's weights, to which the input is cast; None to leave it as it is.

    Raises:
        RefusedInputError: the preprocess or the model raised an error at what it was given.
        TypeError: a preprocess that does not return a tensor.
    """
    copied = pixels.clone()  # the preprocessing and the model may work in place
    seen: object = copied
    if preprocess is not None:
        with _named("preprocess", preprocess, copied, ""):
            seen = preprocess(copied)
    if not isinstance(seen, Tensor):
        raise wrong_type("preprocess", "a function that returns a tensor", seen)
    given = seen.to(dtype) if dtype is not None and seen.is_floating_point() else seen
    with _named("model", model, given, ", as they are without a preprocess" if preprocess is None else ""):
        answer = model(given)
    if isinstance(answer, Mapping) and "logits" in answer:
        return answer["logits"]
    return getattr(answer, "logits", answer)


@contextmanager
def _named(argument: str, function: object, given: Tensor, how: str) -> Iterator[None]:
    """Name a function of the user as what refused its input, except where memory or the device was the reason."""
    wanted = f"one that takes {list(given.shape)} in {given.dtype}{how}"
    kind = type(function).__name__ if isinstance(function, nn.Module) else getattr(function, "__qualname__", None)
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if _is_named(error):
            raise
        got = f"{kind or type(function).__name__}, which raised {first_line(error)}"
        raise RefusedInputError(describe(argument, wanted, got)) from error


def _is_named(error: Exception) -> bool:
    """Return whether this package raised an error, as of a layer that a hook reads, or of a classifier inside."""
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return str(last.f_globals.get("__name__", "")).partition(".")[0] == __name__.partition(".")[0]


def checked_values(values: object, count: int, labels: Sequence[str] | None) -> Tensor:
    """Return the output of a model after a check.

    Args:
        values: what the model returned, floating point [B, C].
        count: number of images B.
        labels: names of the classes, None if they have none.

    Raises:
        TypeError: no tensor.
        ValueError: another shape or dtype, or another number of outputs than labels.
    """
    if not isinstance(values, Tensor):
        raise wrong_type("model", "one that returns logits [B, C], or an object or dict with logits", values)
    if values.ndim != 2 or len(values) != count or not values.is_floating_point():
        got = f"{list(values.shape)} in {values.dtype}"
        raise wrong_value("model", f"floating point logits [{count}, C]", got)
    columns, named = values.shape[1], None if labels is None else len(labels)
    if named not in (None, columns) and not (columns == 1 and named == 2):
        raise wrong_value("labels", f"one for each of the {columns} logits", f"{named} labels")
    return values
