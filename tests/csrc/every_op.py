"""Every op of the compiled library, forward and backward: ``python -m tests.csrc.every_op <library>`` runs them all.

The program takes the library as an argument, because a library that was built for a sanitizer is not installed.
"""

import sys

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def results(dtype: torch.dtype, side: int, channels: int) -> dict[str, tuple[Tensor, ...]]:
    """Return outputs and gradients of every op in its C++ implementation, by name.

    Args:
        dtype: dtype of the activations.
        side: height and width; its square is the number of rows.
        channels: width of a row, even.
    """
    from diffexplain_fast.ops import attention, geglu, group_norm_silu, guided_step, layer_norm

    torch.manual_seed(0)
    wide = torch.promote_types(dtype, torch.float32)

    def normal(*sizes: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(sizes).to(kind).requires_grad_()

    rows, weights = side * side, [normal(2 * channels).detach() for _ in range(2)]
    image, skip, shift = normal(2, channels, side, side), normal(2, channels, side, side), normal(2, 2 * channels)
    row, packed = normal(rows, 2 * channels), normal(rows, 2 * channels)
    sample, before, noise = (normal(1, channels, side, side, kind=wide) for _ in range(3))
    outputs, table = (normal(n, channels, side, side) for n in (1, 2)), normal(8, kind=wide).detach()
    single, guided = outputs
    half = [w[:channels] for w in weights]
    q, k, v = (normal(2, n, 2, channels) for n in (rows, channels, channels))
    made = {
        "attention": (attention(q, k, v, impl="cpp"), [q, k, v]),
        "group_norm_silu": (group_norm_silu(image, *half, 2, impl="cpp"), [image]),
        "group_norm_silu, two parts": (
            group_norm_silu(image, *weights, 4, skip=skip, shift=shift, impl="cpp"),
            [image, skip, shift],
        ),
        "group_norm": (group_norm_silu(image, *half, 1, silu=False, impl="cpp"), [image]),
        "layer_norm": (layer_norm(row, *weights, impl="cpp"), [row]),
        "geglu": (geglu(packed, impl="cpp"), [packed]),
        "guided_step": (
            torch.cat(guided_step(sample, guided, table, before, noise.detach(), impl="cpp")),
            [sample, guided, before],
        ),
        "guided_step, one row": (torch.cat(guided_step(sample, single, table, impl="cpp")), [sample, single]),
    }
    found = {
        name: (y.detach(), *torch.autograd.grad(y, inputs, torch.randn_like(y))) for name, (y, inputs) in made.items()
    }
    phases = normal(2, 4 * channels, side, side).detach().contiguous(memory_format=torch.channels_last)
    whole = torch.ops.diffexplain_fast.interleave_fwd(phases)
    return found | {"interleave": (whole, torch.ops.diffexplain_fast.interleave_bwd(whole))}


def main(library: str) -> None:
    """Run every op on small shapes: one pixel, an odd size, a size that is not a multiple of the widest vector."""
    load = torch.ops.load_library
    torch.ops.load_library = lambda path: None  # not the installed library
    from diffexplain_fast.ops import _impl

    load(library)
    _impl.CPP_MISSING = ""
    for dtype in DTYPES:
        for side, channels in ((1, 2), (3, 6), (9, 34)):
            results(dtype, side, channels)


if __name__ == "__main__":
    main(sys.argv[1])
