"""Every op on a GPU, forward and backward, beside eager PyTorch: ``python -m benchmarks.gpu_ops``.

Microseconds by CUDA events, achieved bandwidth as a share of what a copy reaches on the same card, at the shapes of
Stable Diffusion 1.5 with guidance. A case whose gradient is not eager's to the dtype's rounding gets no figures.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast import ops
from diffexplain_fast.environment import device_record, versions

RESULT = Path(__file__).parent / "results" / "gpu-ops.json"
_AGREEMENT = {torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest relative L2 distance between two correct gradients in half precision."""
_PASSES = {"group_norm_silu": (3, 5), "layer_norm": (2, 3), "geglu": (1.5, 2.5), "attention": (4, 9)}
"""Tensors of the input's size read and written at least, in the forward and in the backward."""
Case = tuple[str, str, Callable[..., Tensor], Callable[..., Tensor], list[Tensor], tuple[str, ...]]


def cases(dtype: torch.dtype) -> list[Case]:
    """Return op, shape, ours (taking ``impl``), eager, inputs that need gradients, and the implementations to try."""

    def new(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda", dtype=dtype)

    found: list[Case] = []
    for shape in ((2, 320, 64, 64), (2, 640, 32, 32), (2, 1280, 16, 16), (1, 128, 512, 512)):
        x, w, b = new(*shape).contiguous(memory_format=torch.channels_last), new(shape[1]), new(shape[1])
        found.append(
            (
                "group_norm_silu",
                "x".join(map(str, shape)),
                lambda x, impl, w=w, b=b: ops.group_norm_silu(x, w, b, 32, impl=impl),
                lambda x, w=w, b=b: F.silu(F.group_norm(x, 32, w, b)),
                [x],
                ("triton", "cuda"),
            )
        )
    for rows, width in ((8192, 320), (2048, 640), (512, 1280)):
        x, w, b = new(rows, width), new(width), new(width)
        found.append(
            (
                "layer_norm",
                f"{rows}x{width}",
                lambda x, impl, w=w, b=b: ops.layer_norm(x, w, b, impl=impl),
                lambda x, w=w, b=b: F.layer_norm(x, x.shape[-1:], w, b),
                [x],
                ("triton",),
            )
        )
        h = new(rows, 8 * width)
        eager = lambda h: (lambda v, g: v * F.gelu(g))(*h.chunk(2, -1))  # noqa: E731 - one expression
        found.append(("geglu", f"{rows}x{8 * width}", lambda h, impl: ops.geglu(h, impl=impl), eager, [h], ("triton",)))
    for n, keys, d in ((4096, 4096, 40), (4096, 77, 40), (1024, 1024, 80), (1024, 77, 80), (256, 256, 160)):
        parts = [new(2, length, 8, d) for length in (n, keys, keys)]
        found.append(
            (
                "attention",
                f"2x{n}x{keys} d{d}",
                lambda q, k, v, impl: ops.attention(q, k, v, impl=impl),
                lambda q, k, v: F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v))).transpose(
                    1, 2
                ),
                parts,
                ("triton", "sdpa"),
            )
        )
    return found


def run(case: Case, ceiling: float) -> list[dict[str, Any]]:
    """Return a row for eager and for each implementation: microseconds forward, forward and backward, gradient."""
    from triton.testing import do_bench

    op, shape, ours, eager, inputs, impls = case
    leaves = [part.detach().requires_grad_() for part in inputs]
    out = eager(*leaves)
    cotangent = torch.randn_like(out)
    truth = torch.autograd.grad(out, leaves, cotangent)
    rows: list[dict[str, Any]] = []
    for impl in ("eager", *impls):
        row: dict[str, Any] = {"op": op, "shape": shape, "impl": impl}
        rows.append(row)

        def call(impl: str = impl) -> Tensor:
            return eager(*leaves) if impl == "eager" else ours(*leaves, impl=impl)

        try:
            grads = torch.autograd.grad(call(), leaves, cotangent)
        except (ValueError, RuntimeError) as error:
            row["refused"] = str(error).splitlines()[0]
            continue
        row["gradient_distance"] = max(float((a - b).norm() / b.norm()) for a, b in zip(grads, truth, strict=True))
        if not row["gradient_distance"] <= _AGREEMENT[inputs[0].dtype]:
            row["refused"] = "another gradient than eager PyTorch"
            continue
        made = call()
        forward = 1e3 * do_bench(call, return_mode="median")
        backward = 1e3 * do_bench(
            lambda made=made: torch.autograd.grad(made, leaves, cotangent, retain_graph=True), return_mode="median"
        )
        size = inputs[0].nbytes
        moved = [passes * size / time / 1e6 for passes, time in zip(_PASSES[op], (forward, backward), strict=True)]
        row |= {"forward_us": forward, "backward_us": backward, "forward_tb_s": moved[0], "backward_tb_s": moved[1]}
        row |= {"share_of_copy": [rate / ceiling for rate in moved]}
    return rows


def copy_ceiling() -> float:
    """Return the bandwidth of a large copy in TB/s, read and write counted."""
    from triton.testing import do_bench

    x = torch.empty(2**29, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.nbytes / do_bench(lambda: y.copy_(x), return_mode="median") / 1e9


def main() -> None:
    """Measure every case, print a table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_ops", description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    ceiling, rows = copy_ceiling(), []
    sys.stdout.write(f"copy: {ceiling:.2f} TB/s\n")
    for case in cases(getattr(torch, arguments.dtype)):
        for row in run(case, ceiling):
            rows.append(row)
            place = f"{row['op']:16} {row['shape']:18} {row['impl']:8}"
            if "refused" in row:
                sys.stdout.write(f"{place} refused: {row['refused']}\n")
            else:
                shares = "/".join(f"{100 * share:.0f} %" for share in row["share_of_copy"])
                sys.stdout.write(f"{place} {row['forward_us']:8.1f} {row['backward_us']:8.1f} us  {shares} of copy\n")
            sys.stdout.flush()
            record = {"dtype": arguments.dtype, "copy_tb_s": ceiling, "device": device_record(), "versions": versions()}
            arguments.out.write_text(json.dumps(record | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
