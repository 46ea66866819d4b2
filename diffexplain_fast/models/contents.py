"""The content of an entry of a model's state as bytes, the same in every process and on every device."""

import enum
import io
from collections.abc import Callable, Mapping, Set

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.dtype, torch.device, torch.layout)
_PLAIN_NUMPY = "biufcSU"
"""Kinds of arrays without objects."""


def add_content(add: Callable[[bytes | memoryview], object], name: str, value: object) -> None:
    """Pass the content of a value on, piece by piece.

    Args:
        add: receives the bytes.
        name: of the entry, which begins its bytes and is named in the error.
        value: a tensor, also a quantised or sparse one, or numbers, texts, bytes, arrays, types of torch, members of an
            enum, and dicts, lists, tuples and sets of them, at any depth.

    Raises:
        TypeError: something else.
    """
    if isinstance(value, Tensor):
        _add_tensor(add, name, value)
    elif isinstance(value, enum.Enum):
        add(f"{name} {type(value).__name__}.{value.name}\n".encode())
    elif isinstance(value, _PLAIN):
        add(f"{name} {type(value).__name__} {value!r}\n".encode())
    elif isinstance(value, io.BytesIO):
        add_content(add, name, value.getvalue())
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _PLAIN_NUMPY:
        add(f"{name} {value.dtype} {value.shape}\n".encode())
        add(value.tobytes())
    elif isinstance(value, Mapping):
        add(f"{name} dict {len(value)}\n".encode())
        for key in sorted(value, key=repr):
            add_content(add, f"{name} key", key)
            add_content(add, f"{name}[{key!r}]", value[key])
    elif isinstance(value, list | tuple):
        add(f"{name} {'list' if isinstance(value, list) else 'tuple'} {len(value)}\n".encode())
        for index, each in enumerate(value):
            add_content(add, f"{name}[{index}]", each)
    elif isinstance(value, Set):
        add(f"{name} set {len(value)}\n".encode())
        for each in sorted(value, key=repr):
            add_content(add, f"{name} member", each)
    else:
        wanted = f"a state_dict of tensors, numbers, texts, lists and dicts, which its entry {name} is not"
        raise wrong_type(name.partition(".")[0], wanted, value)


def _add_tensor(add: Callable[[bytes | memoryview], object], name: str, tensor: Tensor) -> None:
    add(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    if tensor.is_quantized:
        _add_scales(add, name, tensor)
        tensor = tensor.int_repr()
    elif tensor.layout == torch.sparse_coo:
        joined = tensor.detach().coalesce()
        _add_tensor(add, f"{name} indices", joined.indices())
        tensor = joined.values()
    elif tensor.layout != torch.strided:
        tensor = tensor.detach().to_dense()
    # A copy: a storage of which numpy has a view can never be resized again, as some modules do with their buffers.
    raw = tensor.detach().to("cpu", copy=True).resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    add(raw.numpy().data)


def _add_scales(add: Callable[[bytes | memoryview], object], name: str, tensor: Tensor) -> None:
    """Pass on what the integers of a quantised tensor mean."""
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        add(f"{name} {tensor.q_scale()!r} {tensor.q_zero_point()!r}\n".encode())
        return
    _add_tensor(add, f"{name} scales", tensor.q_per_channel_scales())
    _add_tensor(add, f"{name} zero points", tensor.q_per_channel_zero_points())
    add(f"{name} axis {tensor.q_per_channel_axis()}\n".encode())
