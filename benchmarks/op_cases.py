"""Every op at any shape beside plain PyTorch: the cases of ``benchmarks.cpu_ops`` and ``benchmarks.gpu_ops``."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffexplain_fast import ops
from diffexplain_fast.ops.upsample_conv import pack_subpixel

Shape = tuple[int, ...]

_RAW = torch.ops.diffexplain_fast
_IMAGES, _HEADS = 2, 8
_LIBRARIES = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


class Case(NamedTuple):
    """One op at one shape."""

    op: str  # its name
    shape: Shape  # of its input; of attention queries, keys and head dimension, with 2 images and 8 heads
    inputs: Callable[[], list[Tensor]]  # makes what is differentiated
    ours: Callable[..., Any]  # the op, of the inputs, and of ``impl`` where it has several
    eager: Callable[..., Any]  # plain PyTorch, of the inputs
    moved: tuple[int, int]  # numbers that the forward and the backward read and write at least
    flop: tuple[int, int] = (0, 0)  # 2 per multiply-add of the forward and of the backward; 0 where the bytes decide
    impls: tuple[str, ...] = ("torch",)  # its implementations on a GPU; "torch" for an op that is calls of torch
    # forward and backward without autograd, of the cotangents and the inputs, where C++ has kernels of its own
    raw: Callable[..., Tensor] | None = None
    others: Mapping[str, Callable[..., Any]] = {}  # libraries that compute the same, by name
    detail: str = ""  # what the shape does not say


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
    for op, found in shapes.items():
        for shape in found:
            yield _MAKERS[op](new, *shape)


def gradients(function: Callable[..., Any], cotangents: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Return what computes the gradients of all inputs of a function, by the cotangents of its results."""
    return lambda *inputs: torch.autograd.grad(results(function(*inputs)), inputs, cotangents)


def results(made: Any) -> tuple[Tensor, ...]:
    """Return what a function of one or several results returned as a tuple."""
    return made if isinstance(made, tuple) else (made,)


def distance(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest relative L2 distance between two lists of gradients."""
    return max(float((one - other).norm() / other.norm()) for one, other in zip(got, wanted, strict=True))


def mean_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Return the mean seconds of a call on the CPU, after one that is not timed: the caches hold what ran before."""
    function()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def _group_norm_silu(new: New, *shape: int) -> Case:
    *shape, groups = (*shape, 32)[:5]
    w, b, x = new(shape[1]), new(shape[1]), math.prod(shape)

    def raw(dy: Tensor, x: Tensor) -> Tensor:
        _, mean, rstd = _RAW.group_norm_silu_fwd(x, None, None, w, b, groups, 1e-5, True)
        return _RAW.group_norm_silu_bwd(dy, x, None, None, w, b, mean, rstd, groups, True)

    return Case(
        "group_norm_silu",
        tuple(shape),
        inputs=lambda: [new(*shape)],
        ours=lambda x, impl: ops.group_norm_silu(x, w, b, groups, impl=impl),
        impls=("triton", "cuda"),
        eager=lambda x: F.silu(F.group_norm(x, groups, w, b)),
        moved=(3 * x, 5 * x),  # the statistics, and backward the sums, need a pass of their own
        raw=raw,
        detail=f"{groups} groups",
    )


def _layer_norm(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1]), new(shape[1]), math.prod(shape)

    def raw(dy: Tensor, x: Tensor) -> Tensor:
        _, mean, rstd = _RAW.layer_norm_fwd(x, w, b, 1e-5)
        return _RAW.layer_norm_bwd(dy, x, w, mean, rstd)

    return Case(
        "layer_norm",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda x, impl: ops.layer_norm(x, w, b, impl=impl),
        impls=("triton",),
        eager=lambda x: F.layer_norm(x, x.shape[-1:], w, b),
        moved=(2 * x, 3 * x),
        raw=raw,
    )


def _geglu(new: New, *shape: int) -> Case:
    def eager(h: Tensor) -> Tensor:
        value, gate = h.chunk(2, -1)
        return value * F.gelu(gate)

    def raw(dy: Tensor, h: Tensor) -> Tensor:
        _RAW.geglu_fwd(h)
        return _RAW.geglu_bwd(dy, h)

    h = math.prod(shape)
    return Case(
        "geglu",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda h, impl: ops.geglu(h, impl=impl),
        impls=("triton",),
        eager=eager,
        moved=(h + h // 2, 2 * h + h // 2),
        raw=raw,
    )


def _attention(new: New, queries: int, keys: int, d: int) -> Case:
    def eager(*parts: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts)).transpose(1, 2)

    def by(library: SDPBackend) -> Callable[..., Tensor]:
        def run(*parts: Tensor) -> Tensor:
            with sdpa_kernel(library):
                return eager(*parts)

        return run

    q, kv = _IMAGES * queries * _HEADS * d, _IMAGES * 2 * keys * _HEADS * d
    product = 2 * q * keys
    return Case(
        "attention",
        (queries, keys, d),
        inputs=lambda: [
            new(_IMAGES, length, _HEADS * d).unflatten(-1, (_HEADS, d)) for length in (queries, keys, keys)
        ],
        ours=lambda q, k, v, impl: ops.attention(q, k, v, impl=impl),
        impls=("triton", "sdpa", "xformers"),
        eager=eager,
        moved=(2 * q + kv, 4 * q + 2 * kv),
        flop=(2 * product, 5 * product),  # backward computes the scores again
        others={name: by(library) for name, library in _LIBRARIES.items()},
    )


def _guided_step(new: New, *shape: int) -> Case:
    """Return a step of a two-step sampler: both results are used, and the prediction of the step before."""
    factors = [3.0, 0.9, -0.3, 0.2, 0.0, 1.1, -0.4, 1.0]
    g, a, b, p, _, e, f, _ = factors
    table = torch.tensor(factors, device=new.device)

    def eager(sample: Tensor, output: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        unconditional, conditional = output.float().chunk(2)
        o = unconditional + g * (conditional - unconditional)
        return a * sample + b * o + p * before, e * sample + f * o

    def inputs() -> list[Tensor]:
        sample, before = (torch.randn(shape, device=new.device) for _ in range(2))
        return [sample, torch.randn(2 * shape[0], *shape[1:], device=new.device).to(new.dtype), before]

    like = torch.empty(0, device=new.device, dtype=new.dtype)

    def raw(dfollowing: Tensor, ddata: Tensor, *inputs: Tensor) -> Tensor:
        _RAW.guided_step_fwd(*inputs, None, table)
        return _RAW.guided_step_bwd(dfollowing, ddata, table, True, like)

    x = math.prod(shape)
    moved = 4 * x + 2 * x * new.dtype.itemsize // 4  # of float32, but for the denoiser's output
    return Case(
        "guided_step",
        shape,
        inputs=inputs,
        ours=lambda sample, output, before, impl: tuple(ops.guided_step(sample, output, table, before, impl=impl)),
        impls=("triton", "cuda"),
        eager=eager,
        moved=(moved, moved),
        raw=raw,
    )


def _conv2d_frozen(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1], shape[1], 3, 3), new(shape[1]), math.prod(shape)
    cost = 2 * x + w.numel(), 18 * x * shape[1]
    ours, eager = (partial(run, weight=w, bias=b, padding=1) for run in (ops.conv2d_frozen, F.conv2d))
    return _product("conv2d_frozen", new, shape, cost, ours, eager)


def _linear_frozen(new: New, *shape: int) -> Case:
    w, b, x = new(8 * shape[1], shape[1]), new(8 * shape[1]), math.prod(shape)
    cost = 9 * x + w.numel(), 2 * shape[0] * w.numel()
    ours, eager = (partial(run, weight=w, bias=b) for run in (ops.linear_frozen, F.linear))
    return _product("linear_frozen", new, shape, cost, ours, eager)


def _upsample_conv(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1], shape[1], 3, 3), new(shape[1]), math.prod(shape)
    packed = pack_subpixel(w, b)

    def eager(x: Tensor) -> Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, b, padding=1)

    cost = 5 * x + 16 * shape[1] ** 2, 4 * 8 * x * shape[1]  # four phases of 2 x 2 taps
    ours = partial(ops.upsample_conv, packed=packed)
    return _product("upsample_conv", new, shape, cost, ours, eager)._replace(impls=("triton",))


def _product(
    op: str, new: New, shape: Shape, cost: tuple[int, int], ours: Callable[..., Any], eager: Callable[..., Any]
) -> Case:
    """A product with a frozen weight, whose backward costs what its forward costs: numbers moved, and FLOP."""
    moved, flop = cost
    return Case(op, shape, lambda: [new(*shape)], ours, eager, moved=(moved, moved), flop=(flop, flop))


def _resize_normalize(new: New, *shape: int) -> Case:
    size, mean, std = (224, 224), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    centre, spread = (torch.tensor(numbers, device=new.device)[:, None, None] for numbers in (mean, std))

    def eager(pixels: Tensor) -> Tensor:
        return (F.interpolate(pixels, size, mode="bilinear", antialias=True) - centre) / spread

    x, y = math.prod(shape), math.prod(shape[:2]) * math.prod(size)
    return Case(
        "resize_normalize",
        shape,
        inputs=lambda: [torch.rand(shape, device=new.device)],
        ours=lambda pixels: ops.resize_normalize(pixels, size, mean, std),
        eager=eager,
        moved=(x + y, x + y),
    )


_MAKERS: dict[str, Callable[..., Case]] = {
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
