"""One run of the user's model: what it is given, and what it may answer."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value


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
        TypeError: a preprocess that does not return a tensor.
    """
    copied = pixels.clone()  # the preprocessing and the model may work in place
    seen: object = copied if preprocess is None else preprocess(copied)
    if not isinstance(seen, Tensor):
        raise wrong_type("preprocess", "a function that returns a tensor", seen)
    answer = model(seen.to(dtype) if dtype is not None and seen.is_floating_point() else seen)
    if isinstance(answer, Mapping) and "logits" in answer:
        return answer["logits"]
    return getattr(answer, "logits", answer)


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
