"""Small tensors that are created once for each device."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=128)
def constant(values: tuple[float | tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that is copied to a device only once: a copy blocks, and a graph cannot record it.

    All callers share the tensor, so none may change it.

    Args:
        values: numbers, or tuples of numbers.
        dtype: dtype of the tensor.
        device: device of the tensor.
    """
    with torch.inference_mode(False):  # the tensor is kept, so it must not be an inference tensor
        return torch.tensor(values, dtype=dtype, device=device)
