"""Bytes that one operation moves, from the shapes of what goes in and what comes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

_UNREAD = ("copy_", "fill_", "zero_", "normal_", "uniform_", "empty_like", "zeros_like", "ones_like", "full_like")
"""Operations that do not read their first argument."""
_PICKING = ("embedding", "index", "index_select", "gather")
"""Operations that read no more of their first argument than they put out."""


def moved_bytes(function: Any, arguments: Sequence[Any], options: Mapping[str, Any], out: Any) -> int:
    """Return the bytes of all tensors that an operation reads and of all that it writes.

    Each counts once for reading and once for writing, however often caches were missed. Repeated elements of an
    expanded tensor count once. What is looked up in a table counts, and not the table.

    Args:
        function: the ``OpOverload`` that ran.
        arguments: its positional arguments.
        options: its keyword arguments.
        out: what it returned.
    """
    name = function._schema.name.removeprefix("aten::")
    read, written = _tensors((arguments, options)), sum(map(tensor_bytes, _tensors(out)))
    if name in _UNREAD or name in _PICKING:
        read = read[1:]
    return sum(map(tensor_bytes, read)) + written * (2 if name in _PICKING else 1)


def tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's different elements; of a weight laid out for oneDNN without its padding.

    Args:
        tensor: of any shape.
    """
    shape = tensor.shape
    if tensor.layout is torch.strided:
        shape = torch.Size(n for n, stride in zip(shape, tensor.stride(), strict=True) if stride != 0)
    return shape.numel() * tensor.element_size()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
