"""Calls of ops: their arguments in every layout, the device of each implementation, and the results and kept bytes."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from diffexplain_fast.ops._impl import OFFERED, choose

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAYOUTS = ("contiguous", "gaps", "transposed", "channels_last")
SIDES = st.sampled_from([1, 2, 3, 5])
LENGTHS = st.sampled_from([1, 2, 13, 63])


class Call(NamedTuple):
    """One call of an op.

    Attributes:
        inputs: the arguments in which the op is differentiable, by name.
        fixed: the other arguments.
    """

    inputs: dict[str, Tensor]
    fixed: dict[str, Any]

    def arguments(self) -> dict[str, Any]:
        return self.inputs | self.fixed

    def double(self) -> "Call":
        return Call(*tree_map_only(Tensor, lambda t: t.detach().double(), tuple(self)))


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """Return equal values in other strides; "gaps" has NaN between them."""
    if layout == "gaps":
        wide = torch.full((*tensor.shape, 2), float("nan"), dtype=tensor.dtype, device=tensor.device)
        wide[..., 0] = tensor
        return wide[..., 0]
    if layout == "transposed" and tensor.ndim > 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "channels_last" and tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def device_of(impl: str) -> torch.device:
    """Return the device for the tests of an implementation: the accelerator, if it exists and is needed."""
    return CPU if impl == "cpp" else DEVICE


def variants(op: str) -> list[Any]:
    """Return the implementations of an op as parameters; those that cannot run here are skipped with the reason."""
    return [
        pytest.param(impl, marks=_obstacle(op, impl)) for impl in (("reference", *OFFERED[op]) if op else ("torch",))
    ]


def _obstacle(op: str, impl: str) -> tuple[pytest.MarkDecorator, ...]:
    if impl == "triton" and not importlib.util.find_spec(f"diffexplain_fast.kernels.{op}"):
        return (pytest.mark.skip(reason=f"kernels/fused/{op}.py is not there"),)
    try:
        if op:
            choose(op, impl, device_of(impl), torch.float32)
    except ValueError as error:
        return (pytest.mark.skip(reason=str(error)),)
    return ()


def outputs(made: Any) -> tuple[Tensor, ...]:
    return tuple(made) if isinstance(made, tuple) else (made,)


def evaluate(
    function: Callable[..., Any], call: Call, cotangents: tuple[Tensor, ...] | None = None, layout: str = "contiguous"
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the outputs, the gradients of all inputs for random cotangents, and these cotangents."""
    inputs = {name: value.detach().requires_grad_() for name, value in call.inputs.items()}
    made = outputs(function(**inputs, **call.fixed))
    if cotangents is None:
        cotangents = tuple(laid_out(torch.randn_like(y), layout) for y in made)
    return made, torch.autograd.grad(made, list(inputs.values()), cotangents), cotangents


def kept_bytes(function: Callable[[], Any], own: set[int]) -> int:
    """Return the bytes that a graph keeps, saved or as an attribute of a node, without the storages in ``own``."""
    seen: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes(), tensor  # holding it keeps the address unique
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = function()
    nodes = [y.grad_fn for y in outputs(made)]
    while nodes:
        node = nodes.pop()
        nodes += [following for following, _ in node.next_functions if following is not None]
        for value in tree_leaves(list(getattr(node, "__dict__", {}).values())):
            if isinstance(value, Tensor):
                pack(value)
    return sum(size for size, _ in seen.values())


def size_of(*tensors: Tensor | None) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def significant(tensor: Tensor) -> tuple[Any, ...]:
    """Return shape, dtype, and the strides of the dimensions whose stride counts."""
    strides = [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
    return tuple(tensor.shape), tensor.dtype, strides if tensor.numel() else []


class Idle(TorchFunctionMode):
    """Collects the results of calls that returned their first argument."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Any] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.results.extend(one for one in args[:1] if one is made)
        return made
