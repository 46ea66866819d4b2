"""The user's own pictures, with the concepts that an eye sees in them and the labels that the user gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.concept_names import folded, label_names
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.eyes import Eye

_BATCH = 32
_UNSEEN = -1
Things = TypeVar("Things", Tensor, list[int], list[tuple[int, int]])


@dataclass(frozen=True)
class Given:
    """Own pictures.

    Attributes:
        pixels: float [N, 3, H, W] in [0, 1].
        labels: the true label of each; empty without labels.
    """

    pixels: Tensor
    labels: tuple[str, ...]

    def seen(self, concepts: Concepts, look: Eye) -> np.ndarray:
        """Return the value of every group that each picture shows, int [N, groups]; -1 where none is seen.

        A label that is the name of a value says what the picture shows of that value's group.

        Args:
            concepts: what is looked for.
            look: the eye.
        """
        found = np.nan_to_num(np.concatenate([look(part) for part in batches(self.pixels)]))
        columns, start = [], 0
        for values in concepts.groups.values():
            own = found[:, start : start + len(values)]
            value = np.where(own.max(1) > 0, own.argmax(1), _UNSEEN)
            named = {folded(name): place for place, name in enumerate(values)}
            told = [next((named[one] for one in label_names(label) if one in named), _UNSEEN) for label in self.labels]
            if max(told, default=_UNSEEN) != _UNSEEN:
                value = np.array(told)
            columns.append(value)
            start += len(values)
        return np.stack(columns, 1) if columns else np.zeros((len(self.pixels), 0), dtype=np.int64)


def given_pictures(pixels: Tensor, labels: object) -> Given:
    """Return own pictures with their labels, checked.

    Args:
        pixels: float [N, 3, H, W].
        labels: a label for each picture, in a list or an array of one dimension; or None.

    Raises:
        TypeError: labels of another kind.
        ValueError: another number of labels than of pictures.
    """
    if labels is None:
        return Given(pixels, ())
    listed = one_each(labels)
    if listed is None or any(not isinstance(one, str) for one in listed):
        raise wrong_type("labels", "a label for every picture of images, or None", labels)
    if len(listed) != len(pixels):
        raise wrong_value("labels", f"{len(pixels)} labels, one for every picture of images", len(listed))
    return Given(pixels, tuple(str(one) for one in listed))


def one_each(given: object) -> list[object] | None:
    """Return a list, or what an array, a tensor or a column of one dimension holds; None for anything else."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return list(given)
    if isinstance(given, Tensor):
        return given.tolist() if given.ndim == 1 else None
    array = np.asarray(given) if hasattr(given, "__array__") else None
    return array.tolist() if array is not None and array.ndim == 1 else None


def batches(things: Things) -> list[Things]:
    """Return pictures [B, 3, H, W], or numbers of pictures, in parts of at most 32."""
    return [things[start : start + _BATCH] for start in range(0, len(things), _BATCH)]


def share_of(masks: Tensor) -> np.ndarray:
    """Return the share of a picture that a mask [B, 1, H, W] covers, float [B]."""
    return np.asarray(masks.to(torch.float64).mean((1, 2, 3)).cpu())
