"""Every op at any shape beside plain PyTorch: the cases of ``benchmarks.cpu_ops`` and ``benchmarks.gpu_ops``."""

import math
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffexplain_fast import ops
from diffexplain_fast.ops.upsample_conv import pack_subpixel

Shape = tuple[int, ...]
Function = Callable[..., Any]
SHAPES: dict[str, dict[str, list[Shape]]] = {
    table: {op: [tuple(shape) for shape in shapes] for op, shapes in of_ops.items()}
    for table, of_ops in tomllib.loads(Path(__file__).with_name("op_shapes.toml").read_text(encoding="utf-8")).items()
}
"""Table to op to its shapes: "cpu", "gpu", "small", and the bars "wait_for_memory" and "faster_than_libraries"."""
_RAW = torch.ops.diffexplain_fast
_IMAGES, _HEADS = 2, 8


class Case(NamedTuple):
    """One op at one shape."""

    op: str  # its name
    shape: Shape  # of its input; of attention queries, keys and head dimension, with 2 images and 8 heads
    inputs: Callable[[], list[Tensor]]  # makes the tensors that are differentiated
    ours: Function  # the op, of the inputs, and of ``impl`` where it has several
    eager: Function  # plain PyTorch, of the inputs
    moved: tuple[int, int]  # numbers that the forward and the backward read and write at least
    flop: tuple[int, int] = (0, 0)  # 2 per multiply-add of the forward and of the backward; 0 where the bytes decide
    impls: tuple[str, ...] = ("torch",)  # its implementations on a GPU; "torch" for an op that is calls of torch
    # forward and backward without autograd, of the cotangents and the inputs, where C++ has kernels of its own
    raw: Function | None = None
    others: Mapping[str, Function] = {}  # libraries that compute the same, by name
    detail: str = ""  # what the shape does not say

    @property
    def label(self) -> str:
        """The shape as tables show it, such as "8192x320"."""
        return "x".join(map(str, self.shape))


class New(NamedTuple):
    """Makes random tensors."""

    device: torch.device  # where
    dtype: torch.dtype  # of the tensors

    def __call__(self, *shape: int) -> Tensor:
        """Return random numbers; four dimensions are laid out channels-last."""
        made = torch.randn(shape, device=self.device, dtype=self.dtype)
        return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


def cases(new: New, shapes: Mapping[str, Sequence[Shape]]) -> Iterator[Case]:
    """Yield the cases of shapes by op, one at a time; of GroupNorm the groups may follow, else there are 32."""
    for op, of_op in shapes.items():
        for shape in of_op:
            yield _MAKERS[op](new, shape)


def gradients(function: Function, cotangents: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Return a function that computes the gradients of all inputs, by the cotangents of the results."""
    return lambda *inputs: torch.autograd.grad(results(function(*inputs)), inputs, cotangents)


def results(made: Any) -> tuple[Tensor, ...]:
    """Return the one or several results of a function as a tuple."""
    return made if isinstance(made, tuple) else (made,)


def distance(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest relative L2 distance between two lists of gradients."""
    return max(float((one - other).norm() / other.norm()) for one, other in zip(got, wanted, strict=True))


def mean_seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the mean seconds of a call on the CPU, after one that is not timed: the caches hold what ran before."""
    function()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def _group_norm_silu(new: New, shape: Shape) -> Case:
    *size, groups = (*shape, 32)[:5]
    w, b, x = new(shape[1]), new(shape[1]), math.prod(size)

    def raw(dy: Tensor, x: Tensor) -> Tensor:
        _, *statistics = _RAW.group_norm_silu_fwd(x, None, None, w, b, groups, 1e-5, True)
        return _RAW.group_norm_silu_bwd(dy, x, None, None, w, b, *statistics, groups, True)

    case = partial(Case, "group_norm_silu", tuple(size), lambda: [new(*size)], raw=raw, detail=f"{groups} groups")
    ours = partial(ops.group_norm_silu, weight=w, bias=b, num_groups=groups)
    moved = (3 * x, 5 * x)  # the statistics, and backward the sums, need a pass of their own
    return case(ours, lambda x: F.silu(F.group_norm(x, groups, w, b)), moved, impls=("triton", "cuda"))


def _layer_norm(new: New, shape: Shape) -> Case:
    w, b, x = new(shape[1]), new(shape[1]), math.prod(shape)

    def raw(dy: Tensor, x: Tensor) -> Tensor:
        _, *statistics = _RAW.layer_norm_fwd(x, w, b, 1e-5)
        return _RAW.layer_norm_bwd(dy, x, w, *statistics)

    case = partial(Case, "layer_norm", shape, lambda: [new(*shape)], impls=("triton",), raw=raw)
    eager = partial(F.layer_norm, normalized_shape=shape[1:], weight=w, bias=b)
    return case(partial(ops.layer_norm, weight=w, bias=b), eager, moved=(2 * x, 3 * x))


def _geglu(new: New, shape: Shape) -> Case:
    def eager(h: Tensor) -> Tensor:
        value, gate = h.chunk(2, -1)
        return value * F.gelu(gate)

    h = math.prod(shape)
    case = partial(Case, "geglu", shape, lambda: [new(*shape)], ops.geglu, eager, (h + h // 2, 2 * h + h // 2))
    return case(impls=("triton",), raw=lambda dy, h: (_RAW.geglu_fwd(h), _RAW.geglu_bwd(dy, h)))


def _attention(new: New, shape: Shape) -> Case:
    queries, keys, d = shape

    def inputs() -> list[Tensor]:
        return [new(_IMAGES, length, _HEADS * d).unflatten(-1, (_HEADS, d)) for length in (queries, keys, keys)]

    def eager(*parts: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts)).transpose(1, 2)

    def by(library: SDPBackend, *parts: Tensor) -> Tensor:
        with sdpa_kernel(library):
            return eager(*parts)

    libraries = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "cudnn": "CUDNN_ATTENTION"}
    others = {name: partial(by, getattr(SDPBackend, library)) for name, library in libraries.items()}
    case = partial(Case, "attention", shape, inputs, impls=("triton", "cudnn", "sdpa", "xformers"), others=others)
    q, kv = _IMAGES * queries * _HEADS * d, _IMAGES * 2 * keys * _HEADS * d
    flop = (4 * q * keys, 10 * q * keys)  # two products, and five, because backward computes the scores again
    return case(ops.attention, eager, moved=(2 * q + kv, 4 * q + 2 * kv), flop=flop)


def _guided_step(new: New, shape: Shape) -> Case:
    """Return a step of a two-step sampler: both results are used, and the prediction of the step before."""
    factors = [3.0, 0.9, -0.3, 0.2, 0.0, 1.1, -0.4, 1.0]
    g, a, b, p, _, e, f, _ = factors
    table, like = torch.tensor(factors, device=new.device), torch.empty(0, device=new.device, dtype=new.dtype)

    def inputs() -> list[Tensor]:
        sample, before = (torch.randn(shape, device=new.device) for _ in range(2))
        return [sample, torch.randn(2 * shape[0], *shape[1:], device=new.device).to(new.dtype), before]

    def ours(sample: Tensor, output: Tensor, before: Tensor, impl: str) -> tuple[Tensor, ...]:
        return tuple(ops.guided_step(sample, output, table, before, impl=impl))

    def eager(sample: Tensor, output: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        unconditional, conditional = output.float().chunk(2)
        o = unconditional + g * (conditional - unconditional)
        return a * sample + b * o + p * before, e * sample + f * o

    def raw(dfollowing: Tensor, ddata: Tensor, *inputs: Tensor) -> Tensor:
        _RAW.guided_step_fwd(*inputs, None, table)
        return _RAW.guided_step_bwd(dfollowing, ddata, table, True, like)

    moved = math.prod(shape) * (4 + 2 * new.dtype.itemsize // 4)  # of float32, except the denoiser's output
    case = partial(Case, "guided_step", shape, inputs, ours, eager, impls=("triton", "cuda"))
    return case(moved=(moved, moved), raw=raw)


def _conv2d_frozen(new: New, shape: Shape) -> Case:
    w, b, x = new(shape[1], shape[1], 3, 3), new(shape[1]), math.prod(shape)
    both = [partial(run, weight=w, bias=b, padding=1) for run in (ops.conv2d_frozen, F.conv2d)]
    return _product("conv2d_frozen", new, shape, both, 2 * x + w.numel(), 18 * x * shape[1])


def _linear_frozen(new: New, shape: Shape) -> Case:
    w, b, x = new(8 * shape[1], shape[1]), new(8 * shape[1]), math.prod(shape)
    both = [partial(run, weight=w, bias=b) for run in (ops.linear_frozen, F.linear)]
    return _product("linear_frozen", new, shape, both, 9 * x + w.numel(), 2 * shape[0] * w.numel())


def _upsample_conv(new: New, shape: Shape) -> Case:
    w, b, x = new(shape[1], shape[1], 3, 3), new(shape[1]), math.prod(shape)
    upsampled = partial(F.interpolate, scale_factor=2.0, mode="nearest")
    both = [partial(ops.upsample_conv, packed=pack_subpixel(w, b)), lambda x: F.conv2d(upsampled(x), w, b, padding=1)]
    cost = 5 * x + 16 * shape[1] ** 2, 4 * 8 * x * shape[1]  # four phases of 2 x 2 taps
    return _product("upsample_conv", new, shape, both, *cost)._replace(impls=("triton",))


def _product(op: str, new: New, shape: Shape, both: Sequence[Function], moved: int, flop: int) -> Case:
    """A product with a frozen weight, whose backward costs as much as its forward: numbers moved, and FLOP."""
    return Case(op, shape, lambda: [new(*shape)], *both, moved=(moved, moved), flop=(flop, flop))


def _resize_normalize(new: New, shape: Shape) -> Case:
    size, mean, std = (224, 224), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    centre, spread = (torch.tensor(numbers, device=new.device)[:, None, None] for numbers in (mean, std))
    resized = partial(F.interpolate, size=size, mode="bilinear", antialias=True)
    moved = math.prod(shape) + math.prod(shape[:2]) * math.prod(size)
    case = partial(Case, "resize_normalize", shape, lambda: [torch.rand(shape, device=new.device)])
    ours = partial(ops.resize_normalize, size=size, mean=mean, std=std)
    return case(ours, lambda pixels: (resized(pixels) - centre) / spread, moved=(moved, moved))


_MAKERS: dict[str, Callable[[New, Shape], Case]] = {
    "group_norm_silu": _group_norm_silu,
    "layer_norm": _layer_norm,
    "geglu": _geglu,
    "attention": _attention,
    "guided_step": _guided_step,
    "conv2d_frozen": _conv2d_frozen,
    "linear_frozen": _linear_frozen,
    "upsample_conv": _upsample_conv,
    "resize_normalize": _resize_normalize,
}
