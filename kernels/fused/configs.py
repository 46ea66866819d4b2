"""Block sizes and warps of every kernel as a plain table, and the only function that launches kernels.

A kernel whose sums depend on its blocks has only one configuration: if a timing chose between two, the bits of a result
could change from run to run. Kernels without sums may have several; without a driver to time them, the first is used.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import torch
import triton

Argument = torch.Tensor | int | float
"""An argument of a kernel: a tensor for a pointer, a number or a boolean for any other parameter."""
Grid = Callable[[Mapping[str, int]], tuple[int, ...]]
"""A function from block sizes to the number of programs in each dimension."""
FP_FUSION = False
"""False: a * b + c is not contracted, so that the compiled arithmetic is the one that the interpreter tests. It costs
no time: of nine kernels timed with and without on an H200, none was faster with it by more than the noise of 4 %."""


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
    """Return the entries of a kernel; a key of ``rows`` is the most padded columns per head that it serves."""
    return {f"attention_{kernel}_{columns}": [Config(*row)] for columns, row in rows.items()}


_ATTENTION = {
    # With 128 queries (or keys) in a block, the other side is read from the L2 cache half as often as with 64.
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
    # A program holds the scores of all keys; those of heads of 160 columns would spill registers.
    **_attention("text_dq", {"96": ({"BLOCK_M": 64, "BLOCK_N": 64}, 8, 1)}),
    # One program holds all keys, their gradients and those of the queries: with wider heads, registers would spill. 64
    # queries take 38 microseconds instead of 53 on an H200 (4096 x 77 x 40), but spill on chips of capability 12.0.
    **_attention("short", {"64": ({"BLOCK_M": 32, "BLOCK_N": 128}, 8, 2)}),
    "attention_combine": [Config({"BLOCK_E": 256}, 4)],
}

CONFIGS: dict[str, list[Config]] = {
    # 64 channels of half precision are a whole cache line of 128 bytes. Blocks and warps of the group norm's partial
    # sums and last launch, and of the layer norm's backward, are the fastest that benchmarks.tune timed on an H200; the
    # last launches that add up sums, "folded", are newer than those times, and their blocks an estimate.
    "group_norm_silu_partial": [Config({"BLOCK_P": 32, "BLOCK_C": 64}, 2)],
    "group_norm_silu_combine": [Config({}, 4)],
    "group_norm_silu_fwd_folded": [Config({"BLOCK_P": 32, "BLOCK_C": 64}, 4)],
    "group_norm_silu_bwd_folded": [Config({"BLOCK_P": 32, "BLOCK_C": 64}, 4)],
    "group_norm_silu_fwd": [
        Config({"BLOCK_P": 16, "BLOCK_C": 64}, 2),
        Config({"BLOCK_P": 32, "BLOCK_C": 64}, 4),
        Config({"BLOCK_P": 16, "BLOCK_C": 128}, 4),
    ],
    "group_norm_silu_bwd": [
        Config({"BLOCK_P": 16, "BLOCK_C": 64}, 2),
        Config({"BLOCK_P": 16, "BLOCK_C": 128}, 4),
        Config({"BLOCK_P": 8, "BLOCK_C": 128}, 4),
    ],
    "group_norm_silu_whole": [Config({"BLOCK_E": 2048}, 8)],
    "layer_norm_fwd": [Config({}, 4)],
    "layer_norm_bwd": [Config({}, 1)],
    "layer_norm_bwd_wide": [Config({}, 4)],
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
"""Configurations by the name of a kernel, or of an op if all its kernels use the same ones."""

_TIMED = partial(triton.testing.do_bench, warmup=5, rep=20)
"""The function that times a configuration. It runs for a fifth of Triton's default time, because a UNet has about forty
kinds of call. The choice is stored on disk, beside the compiled kernels."""
_AUTOTUNERS: dict[tuple[Hashable, ...], triton.runtime.Autotuner] = {}
"""Autotuners by kernel and chip, because the fastest configuration of one chip is not that of another. One is created
at the first call, never at import, because its creation needs a driver."""


class Launched(NamedTuple):
    """A launch that was noted, because its tensors are on the meta device.

    Attributes:
        kernel: name of the kernel.
        programs: their number, with the first configuration.
        bytes: of all tensors that the kernel was given, each storage once.
        entry: entry of ``CONFIGS``.
        function: ``@triton.jit`` function.
        arguments: the kernel's arguments by name, without block sizes.
    """

    kernel: str
    programs: int
    bytes: int
    entry: str
    function: triton.JITFunction
    arguments: Mapping[str, Argument]


_NOTED: ContextVar[list[Launched] | None] = ContextVar("noted", default=None)
"""The list of the innermost open ``noted`` of this thread."""


@contextmanager
def noted() -> Iterator[list[Launched]]:
    """Note the launches of launchers that are called with meta tensors, on which no kernel runs."""
    launches: list[Launched] = []
    token = _NOTED.set(launches)
    try:
        yield launches
    finally:
        _NOTED.reset(token)


def launch(
    name: str,
    kernel: triton.JITFunction,
    grid: Grid,
    *,
    key: tuple[str, ...] = (),
    **arguments: Argument,
) -> None:
    """Run a kernel with its first configuration, or with the fastest if it has several and a driver can time them.

    Args:
        name: entry of ``CONFIGS``.
        kernel: ``@triton.jit`` function.
        grid: function from block sizes to the number of programs.
        key: names of arguments; for each of their values, the fastest configuration is chosen anew.
        arguments: the kernel's arguments by name, without block sizes; it runs on the device of the first tensor.
    """
    device = next(value.device for value in arguments.values() if isinstance(value, torch.Tensor))
    if device.type == "meta":
        tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
        size = sum({value.untyped_storage()._cdata: value.nbytes for value in tensors}.values())
        if (launches := _NOTED.get()) is not None:
            programs = math.prod(grid(CONFIGS[name][0].blocks))
            launches.append(Launched(kernel.__name__, programs, size, name, kernel, arguments))
        return
    if device.type != "cuda":
        _run(name, kernel, grid, key, arguments)
        return
    with torch.cuda.device(device):  # Triton launches on the current device, not on the device of its arguments.
        _run(name, kernel, grid, key, arguments)


def chip() -> Hashable:
    """Return the kind of chip of the current device, which machine code follows from: its capability, for CUDA."""
    target: Hashable = triton.runtime.driver.active.get_current_target()
    return target


def choices(name: str) -> list[dict[str, int | bool | None]]:
    """Return block sizes and options of each configuration of an entry, as a launch passes them to the kernel.

    Triton looks for compiled machine code under all of them, so what is compiled beforehand has to have the same.

    Args:
        name: entry of ``CONFIGS``.
    """
    configs = CONFIGS[name]
    if len(configs) > 1:
        return [{"enable_fp_fusion": FP_FUSION, **choice.all_kwargs()} for choice in _timed(configs)]
    return [_untimed(configs[0])]


def _untimed(config: Config) -> dict[str, int | bool | None]:
    """Return block sizes and options of a configuration as a launch passes them where no driver times it."""
    blocks, num_warps, num_stages = config
    return {**blocks, "num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": FP_FUSION}


def _timed(configs: list[Config]) -> list[triton.Config]:
    return [triton.Config(dict(each.blocks), num_warps=each.num_warps, num_stages=each.num_stages) for each in configs]


def _run(
    name: str, kernel: triton.JITFunction, grid: Grid, key: tuple[str, ...], arguments: dict[str, Argument]
) -> None:
    configs = CONFIGS[name]
    if len(configs) > 1 and torch.cuda.is_available() and not triton.knobs.runtime.interpret:
        label = kernel.__name__, len(configs), chip()
        if label not in _AUTOTUNERS:
            tuned = triton.autotune(configs=_timed(configs), key=list(key), do_bench=_TIMED, cache_results=True)
            _AUTOTUNERS[label] = tuned(kernel)
        _AUTOTUNERS[label][grid](**arguments, enable_fp_fusion=FP_FUSION)
        return
    kernel[grid](**arguments, **_untimed(configs[0]))
