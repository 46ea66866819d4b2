"""Small tensors that are made once for each device."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=128)
def constant(values: tuple[float | tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor, copied to a device once: a copy makes it wait, and cannot be recorded.

    Args:
        values: numbers, or tuples of them; shared by all callers, so never changed.
        dtype: of the tensor.
        device: where it is.
    """
    with torch.inference_mode(False):  # kept, so never an inference tensor
        return torch.tensor(values, dtype=dtype, device=device)
