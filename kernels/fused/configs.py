"""Block sizes and warps of every kernel as a plain table, and the one place that launches.

A kernel whose sums depend on its blocks has one configuration: a second one, chosen by timing, would change bits from
run to run. Kernels without sums may have several; the first is used where no driver can time them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
import triton

Argument = torch.Tensor | int | float
"""What a kernel is given by name: tensors for its pointers, numbers and booleans for the rest."""
Grid = Callable[[Mapping[str, int]], tuple[int, ...]]
"""Programs as a function of the blocks."""
FP_FUSION = False
"""No contraction of a * b + c: the arithmetic that the interpreter tests. These kernels wait for memory anyway."""


class Config(NamedTuple):
    """One way to launch a kernel.

    Attributes:
        blocks: its ``tl.constexpr`` sizes.
        num_warps: warps of 32 threads per program.
        num_stages: depth of software pipelining of its loops.
    """

    blocks: Mapping[str, int]
    num_warps: int
    num_stages: int = 1


def _attention(kernel: str, rows: dict[str, tuple[dict[str, int], int, int]]) -> dict[str, list[Config]]:
    """Return a kernel's entries: columns per head up to which each serves (padded) to blocks, warps and stages."""
    return {f"attention_{kernel}_{columns}": [Config(*row)] for columns, row in rows.items()}


_ATTENTION = {
    # 128 queries, or keys: what they are held against comes from the second level of cache half as often as with 64.
    **_attention(
        "fwd",
        {
            "64": ({"BLOCK_M": 128, "BLOCK_N": 64}, 8, 3),
            "96": ({"BLOCK_M": 128, "BLOCK_N": 64}, 8, 2),
            "160": ({"BLOCK_M": 64, "BLOCK_N": 32}, 8, 2),
            "64_fp32": ({"BLOCK_M": 16, "BLOCK_N": 32}, 4, 1),
            "96_fp32": ({"BLOCK_M": 16, "BLOCK_N": 32}, 8, 1),
            "160_fp32": ({"BLOCK_M": 16, "BLOCK_N": 16}, 8, 4),
        },
    ),
    **_attention(
        "dq",
        {
            "64": ({"BLOCK_M": 128, "BLOCK_N": 64}, 8, 2),
            "96": ({"BLOCK_M": 128, "BLOCK_N": 32}, 8, 2),
            "160": ({"BLOCK_M": 64, "BLOCK_N": 16}, 8, 2),
            "64_fp32": ({"BLOCK_M": 16, "BLOCK_N": 32}, 8, 1),
            "96_fp32": ({"BLOCK_M": 16, "BLOCK_N": 16}, 8, 1),
            "160_fp32": ({"BLOCK_M": 16, "BLOCK_N": 16}, 8, 3),
        },
    ),
    **_attention(
        "dk_dv",
        {
            "64": ({"BLOCK_M": 64, "BLOCK_N": 128}, 8, 2),
            "96": ({"BLOCK_M": 32, "BLOCK_N": 128}, 8, 2),
            "160": ({"BLOCK_M": 16, "BLOCK_N": 64}, 8, 2),
            "64_fp32": ({"BLOCK_M": 32, "BLOCK_N": 32}, 8, 1),
            "96_fp32": ({"BLOCK_M": 16, "BLOCK_N": 32}, 4, 1),
            "160_fp32": ({"BLOCK_M": 16, "BLOCK_N": 32}, 8, 1),
        },
    ),
    # All keys in one program, with their gradients and those of the queries: wider heads would spill.
    **_attention("short", {"64": ({"BLOCK_M": 32, "BLOCK_N": 128}, 8, 2)}),
    "attention_combine": [Config({"BLOCK_E": 256}, 4)],
}

CONFIGS: dict[str, list[Config]] = {
    # 64 channels of half precision are a whole cache line of 128 bytes.
    # Fewer pixels would allow more warps, but fewer bytes on the way from memory, and one sum across threads for each.
    "group_norm_silu_partial": [Config({"BLOCK_P": 64, "BLOCK_C": 64}, 4)],
    "group_norm_silu_combine": [Config({"BLOCK_K": 128, "BLOCK_D": 16}, 4)],
    "group_norm_silu_fwd": [
        Config({"BLOCK_P": 32, "BLOCK_C": 64}, 4),
        Config({"BLOCK_P": 64, "BLOCK_C": 64}, 4),
        Config({"BLOCK_P": 16, "BLOCK_C": 128}, 4),
    ],
    "group_norm_silu_bwd": [
        Config({"BLOCK_P": 32, "BLOCK_C": 64}, 4),
        Config({"BLOCK_P": 16, "BLOCK_C": 64}, 4),
        Config({"BLOCK_P": 16, "BLOCK_C": 128}, 4),
    ],
    "layer_norm": [Config({}, 4)],
    "geglu": [
        Config({"BLOCK_R": 4, "BLOCK_D": 256}, 4),
        Config({"BLOCK_R": 8, "BLOCK_D": 256}, 8),
        Config({"BLOCK_R": 16, "BLOCK_D": 64}, 4),
    ],
    "guided_step": [Config({"BLOCK_E": 512}, 4)],
    "interleave": [
        Config({"BLOCK_P": 16, "BLOCK_C": 256}, 4),
        Config({"BLOCK_P": 64, "BLOCK_C": 64}, 4),
    ],
    **_ATTENTION,
}
"""Kernel, or op where all its kernels agree, to its configurations."""

_TIMED = partial(triton.testing.do_bench, warmup=5, rep=20)
"""How a configuration is timed: a fifth of the milliseconds of Triton's own, since a UNet has some forty kinds of call;
what is found is kept on disk, beside the compiled kernels."""
_AUTOTUNERS: dict[str, triton.runtime.Autotuner] = {}
"""Kernel's name to its autotuner: made on first call, never at import, since making one asks for a driver."""


class Launched(NamedTuple):
    """A launch that was noted, because its tensors are on the meta device.

    Attributes:
        kernel: name of the kernel.
        programs: their number, with the first configuration.
        bytes: of all tensors that the kernel was given, each storage once.
    """

    kernel: str
    programs: int
    bytes: int


_NOTED: list[Launched] = []


@contextmanager
def noted() -> Iterator[list[Launched]]:
    """Note the launches of launchers that are called with meta tensors, on which no kernel runs."""
    before = list(_NOTED)
    _NOTED.clear()
    try:
        yield _NOTED
    finally:
        _NOTED[:] = before


def launch(
    name: str,
    kernel: triton.JITFunction,
    grid: Grid,
    *,
    key: tuple[str, ...] = (),
    **arguments: Argument,
) -> None:
    """Run a kernel with its first configuration, or with the fastest where there is a choice and a driver to time it.

    Args:
        name: entry of ``CONFIGS``.
        kernel: ``@triton.jit`` function.
        grid: programs as a function of the blocks.
        key: arguments whose values ask for another choice.
        arguments: the kernel's arguments by name, blocks excepted; the first tensor's device is where it runs.
    """
    device = next(value.device for value in arguments.values() if isinstance(value, torch.Tensor))
    if device.type == "meta":
        tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
        size = sum({value.untyped_storage()._cdata: value.nbytes for value in tensors}.values())
        _NOTED.append(Launched(kernel.__name__, math.prod(grid(CONFIGS[name][0].blocks)), size))
        return
    if device.type != "cuda":
        _run(name, kernel, grid, key, arguments)
        return
    with torch.cuda.device(device):  # Triton launches on the current device, not on that of its arguments.
        _run(name, kernel, grid, key, arguments)


def _run(
    name: str, kernel: triton.JITFunction, grid: Grid, key: tuple[str, ...], arguments: dict[str, Argument]
) -> None:
    configs = CONFIGS[name]
    if len(configs) > 1 and torch.cuda.is_available() and not triton.knobs.runtime.interpret:
        label = f"{kernel.__name__} {len(configs)}"
        if label not in _AUTOTUNERS:
            choices = [triton.Config(dict(c.blocks), num_warps=c.num_warps, num_stages=c.num_stages) for c in configs]
            tuned = triton.autotune(configs=choices, key=list(key), do_bench=_TIMED, cache_results=True)
            _AUTOTUNERS[label] = tuned(kernel)
        _AUTOTUNERS[label][grid](**arguments, enable_fp_fusion=FP_FUSION)
        return
    blocks, num_warps, num_stages = configs[0]
    options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": FP_FUSION}
    kernel[grid](**arguments, **blocks, **options)
