"""The cases of ``benchmarks.gpu_ops``: every op at shapes of Stable Diffusion 1.5 and XL with guidance; its rivals."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffexplain_fast import ops
from diffexplain_fast.ops.upsample_conv import pack_subpixel

Shape = tuple[int, ...]

SHAPES: dict[str, tuple[Shape, ...]] = {
    "group_norm_silu": (
        *((2, 320, 64, 64), (2, 640, 32, 32), (2, 1280, 16, 16)),
        *((2, 320, 128, 128), (2, 640, 64, 64), (1, 128, 512, 512)),
    ),
    "layer_norm": ((8192, 320), (2048, 640), (512, 1280), (8192, 640), (2048, 1280)),
    "geglu": ((8192, 2560), (2048, 5120), (512, 10240), (8192, 5120)),
    "attention": (
        *((4096, 4096, 40), (4096, 77, 40), (1024, 1024, 80), (1024, 77, 80), (256, 256, 160)),
        *((4096, 4096, 64), (4096, 77, 64), (1024, 1024, 64)),
    ),
    "guided_step": ((1, 4, 64, 64),),
    "conv2d_frozen": ((2, 320, 64, 64),),
    "linear_frozen": ((8192, 320),),
    "upsample_conv": ((2, 640, 32, 32),),
    "resize_normalize": ((1, 3, 512, 512),),
}
"""Inputs by op; of attention queries, keys and head dimension, with 2 images and 8 heads."""
SMALL: dict[str, tuple[Shape, ...]] = {
    "group_norm_silu": ((2, 64, 3, 5),),
    "layer_norm": ((6, 40),),
    "geglu": ((6, 40),),
    "attention": ((40, 37, 40), (8, 5, 8)),
    "guided_step": ((1, 4, 8, 8),),
    "conv2d_frozen": ((2, 8, 4, 4),),
    "linear_frozen": ((6, 16),),
    "upsample_conv": ((2, 8, 4, 4),),
    "resize_normalize": ((1, 3, 300, 260),),
}
"""The same for sanitizers, and for machines without a GPU."""
_IMAGES, _HEADS = 2, 8
_LIBRARIES = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


class Case(NamedTuple):
    """One op at one shape.

    Attributes:
        op: its name.
        shape: for the table.
        inputs: makes what is differentiated.
        ours: the op, of the inputs, and of ``impl`` where it has several.
        impls: implementations of it; "torch" for an op that is calls of torch.
        eager: plain PyTorch, of the inputs.
        moved: numbers that the forward and the backward read and write at least.
        flop: 2 per multiply-add of the forward and of the backward; 0 where the bytes decide.
        others: libraries that compute the same, by name.
    """

    op: str
    shape: str
    inputs: Callable[[], list[Tensor]]
    ours: Callable[..., Any]
    impls: tuple[str, ...]
    eager: Callable[..., Any]
    moved: tuple[int, int]
    flop: tuple[int, int] = (0, 0)
    others: Mapping[str, Callable[..., Any]] = {}


class New(NamedTuple):
    """Makes random tensors.

    Attributes:
        device: where.
        dtype: of the tensors.
    """

    device: torch.device
    dtype: torch.dtype

    def __call__(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return random numbers; four dimensions are laid out channels-last."""
        made = torch.randn(shape, device=self.device, dtype=dtype or self.dtype)
        return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


def cases(new: New, shapes: Mapping[str, Sequence[Shape]] = SHAPES) -> Iterator[Case]:
    """Yield the cases, one at a time.

    Args:
        new: makes the tensors.
        shapes: by op.
    """
    for op, found in shapes.items():
        for shape in found:
            yield _MAKERS[op](new, *shape)


def _named(op: str, shape: Shape, **parts: Any) -> Case:
    return Case(op=op, shape="x".join(map(str, shape)), **parts)


def _group_norm_silu(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1]), new(shape[1]), math.prod(shape)
    return _named(
        "group_norm_silu",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda x, impl: ops.group_norm_silu(x, w, b, 32, impl=impl),
        impls=("triton", "cuda"),
        eager=lambda x: F.silu(F.group_norm(x, 32, w, b)),
        moved=(3 * x, 5 * x),  # the statistics, and backward the sums, need a pass of their own
    )


def _layer_norm(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1]), new(shape[1]), math.prod(shape)
    return _named(
        "layer_norm",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda x, impl: ops.layer_norm(x, w, b, impl=impl),
        impls=("triton",),
        eager=lambda x: F.layer_norm(x, x.shape[-1:], w, b),
        moved=(2 * x, 3 * x),
    )


def _geglu(new: New, *shape: int) -> Case:
    def eager(h: Tensor) -> Tensor:
        value, gate = h.chunk(2, -1)
        return value * F.gelu(gate)

    h = math.prod(shape)
    return _named(
        "geglu",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda h, impl: ops.geglu(h, impl=impl),
        impls=("triton",),
        eager=eager,
        moved=(h + h // 2, 2 * h + h // 2),
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
    return _named(
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

    x = math.prod(shape)
    return _named(
        "guided_step",
        shape,
        inputs=inputs,
        ours=lambda sample, output, before, impl: tuple(ops.guided_step(sample, output, table, before, impl=impl)),
        impls=("triton", "cuda"),
        eager=eager,
        moved=(6 * x, 6 * x),
    )


def _conv2d_frozen(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1], shape[1], 3, 3), new(shape[1]), math.prod(shape)
    return _named(
        "conv2d_frozen",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda x: ops.conv2d_frozen(x, w, b, padding=1),
        impls=("torch",),
        eager=lambda x: F.conv2d(x, w, b, padding=1),
        moved=(2 * x + w.numel(), 2 * x + w.numel()),
        flop=(18 * x * shape[1], 18 * x * shape[1]),
    )


def _linear_frozen(new: New, *shape: int) -> Case:
    w, b, x = new(8 * shape[1], shape[1]), new(8 * shape[1]), math.prod(shape)
    return _named(
        "linear_frozen",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda x: ops.linear_frozen(x, w, b),
        impls=("torch",),
        eager=lambda x: F.linear(x, w, b),
        moved=(9 * x + w.numel(), 9 * x + w.numel()),
        flop=(2 * shape[0] * w.numel(), 2 * shape[0] * w.numel()),
    )


def _upsample_conv(new: New, *shape: int) -> Case:
    w, b, x = new(shape[1], shape[1], 3, 3), new(shape[1]), math.prod(shape)
    packed = pack_subpixel(w, b)
    product = 4 * 8 * x * shape[1]  # four phases of 2 x 2 taps
    return _named(
        "upsample_conv",
        shape,
        inputs=lambda: [new(*shape)],
        ours=lambda x, impl: ops.upsample_conv(x, packed, impl=impl),
        impls=("triton",),
        eager=lambda x: F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, b, padding=1),
        moved=(5 * x, 5 * x),
        flop=(product, product),
    )


def _resize_normalize(new: New, *shape: int) -> Case:
    size, mean, std = (224, 224), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    centre, spread = (torch.tensor(numbers, device=new.device)[:, None, None] for numbers in (mean, std))

    def eager(pixels: Tensor) -> Tensor:
        return (F.interpolate(pixels, size, mode="bilinear", antialias=True) - centre) / spread

    x, y = math.prod(shape), math.prod(shape[:2]) * math.prod(size)
    return _named(
        "resize_normalize",
        shape,
        inputs=lambda: [torch.rand(shape, device=new.device)],
        ours=lambda pixels: ops.resize_normalize(pixels, size, mean, std),
        impls=("torch",),
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
