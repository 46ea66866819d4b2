"""Memory that CUDA's libraries take beside the tensors of a computation.

cuBLAS keeps one workspace for each pair of thread and stream that ever multiplied matrices. cuDNN takes a workspace
during a convolution, and during the backward of attention.
"""

import re
from collections.abc import Sequence

import torch

from diffexplain_fast.environment import cublas_workspace_config

CUBLAS_PAIRS = 4
"""The caller's thread and autograd's, each on the stream of the call and on that of a recording."""
CUBLAS_HOPPER = 32 * 2**20
"""Bytes of a workspace by default on a GPU of compute capability 9 or more; CUBLAS_WORKSPACE_CONFIG=:4096:8 asks for
the same size. Source: notes of PyTorch on CUDA, "cuBLAS workspaces"."""
_CUBLAS_BEFORE = (2 * 4096 + 8 * 16) * 2**10
"""Bytes of a workspace by default before Hopper, :4096:2:16:8."""

_TILE = 128
"""Queries of a tile of cuDNN's attention, and half of it the columns: the largest numbers that it rounds up to."""


def cudnn_attention_bytes(shape: Sequence[int]) -> int:
    """Return the estimated bytes of the workspace of cuDNN's attention in its backward, an upper bound.

    The gradient of the queries is summed in float32, and each query has its log-sum-exp and its sum over do o.

    Args:
        shape: of the queries, [B, H, N, D].
    """
    images, heads, queries, columns = shape
    rows = images * heads * _round_up(queries, _TILE)
    return 4 * rows * (_round_up(columns, _TILE // 2) + 2)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def cublas_bytes(device: torch.device) -> int | None:
    """Return the bytes of cuBLAS's workspaces, None on a device without cuBLAS."""
    if device.type != "cuda":
        return None
    return CUBLAS_PAIRS * cublas_workspace(torch.cuda.get_device_capability(device), cublas_workspace_config())


def cublas_workspace(capability: tuple[int, int], config: str | None) -> int:
    """Return the bytes of one workspace of cuBLAS.

    Args:
        capability: compute capability of the GPU.
        config: CUBLAS_WORKSPACE_CONFIG, pairs of KiB and a number such as ":4096:8"; None for the default.
    """
    sizes = re.findall(r":([0-9]{1,9}):([0-9]{1,9})", config or "")
    if sizes:
        return sum(int(size) * int(number) for size, number in sizes) * 2**10
    return CUBLAS_HOPPER if capability >= (9, 0) else _CUBLAS_BEFORE
