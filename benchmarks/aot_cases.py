"""The cases of ``benchmarks.aot``: every kernel with every configuration and dtype, and all of its flags on.

An op adds a generator of cases and its line in ``OPS``.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from diffexplain_fast.kernels import attention, geglu, group_norm_silu, guided_step, interleave, layer_norm
from diffexplain_fast.kernels.configs import CONFIGS, FP_FUSION, Config

DTYPES = ("fp16", "bf16", "fp32")
_FLOAT32 = {"mean_ptr", "rstd_ptr", "origin_ptr", "means_ptr", "squares_ptr"}
_FLOAT32 |= {"sums_dn_ptr", "sums_dn_n_ptr", "mean_dn_ptr", "mean_dn_n_ptr"}
_EPS = 1e-5


class Case(NamedTuple):
    """One kernel to compile."""

    name: str  # unique, kernel, dtype and blocks
    kernel: Any  # ``@triton.jit`` function
    # argument to Triton's name of its type, such as "*fp16", "i32", "fp32"; constants excepted
    types: Mapping[str, str]
    constexprs: Mapping[str, Any]  # constant to value
    config: Config  # warps and stages; its blocks are among the constants already
    # integer arguments that are multiples of 16, as channels of real models are; pointers always are
    aligned: tuple[str, ...] = ()
    tensor_cores: bool = False  # whether its machine code must use them
    fp_fusion: bool = FP_FUSION  # as at the kernel's launch


def _types(kernel: Any, constexprs: Mapping[str, Any], dtype: str, other: Mapping[str, str]) -> dict[str, str]:
    """The types of a kernel's arguments except constants: ``other`` first, then by the house's names."""

    def usual(name: str) -> str:
        return ("*fp32" if name in _FLOAT32 else f"*{dtype}") if name.endswith("_ptr") else "i32"

    return {name: other.get(name, usual(name)) for name in kernel.arg_names if name not in constexprs}


def _cases(entry: str, kernel: Any, flags: Mapping[str, Any], aligned: tuple[str, ...], **other: str) -> Iterator[Case]:
    """Yield a kernel in every dtype and configuration of one entry of ``CONFIGS``, with flags that all of them have.

    ``aligned`` are integer arguments that are multiples of 16, ``other`` types that their names do not tell.
    """
    for dtype in DTYPES:
        for config in CONFIGS[entry]:
            constexprs = {**flags, **config.blocks}
            sizes = " ".join(f"{key[6:]}{value}" for key, value in constexprs.items() if key.startswith("BLOCK_"))
            name = f"{kernel.__name__} {dtype} {sizes} warps{config.num_warps} stages{config.num_stages}"
            yield Case(name, kernel, _types(kernel, constexprs, dtype, other), constexprs, config, aligned)


def _group_norm_silu() -> Iterator[Case]:
    parts = {"HAS_SKIP": True, "HAS_SHIFT": True}
    flags, aligned = {**parts, "SILU": True}, ("P", "C1", "C2")
    k, sums = group_norm_silu, "group_norm_silu_combine"
    yield from _cases("group_norm_silu_partial", k.group_norm_silu_fwd_partial_kernel, parts, aligned)
    yield from _cases("group_norm_silu_partial", k.group_norm_silu_bwd_partial_kernel, flags, aligned)
    yield from _cases(sums, k.group_norm_silu_fwd_combine_kernel, {"EPS": _EPS}, ("P", "C", "PIXELS"))
    yield from _cases(sums, k.group_norm_silu_bwd_combine_kernel, {}, ("C",), ELEMENTS="fp32")
    yield from _cases("group_norm_silu_fwd", k.group_norm_silu_fwd_kernel, flags, aligned)
    yield from _cases("group_norm_silu_bwd", k.group_norm_silu_bwd_kernel, flags, aligned)


def _layer_norm() -> Iterator[Case]:
    for columns in (320, 640, 768, 1280):
        tile = layer_norm.blocks(columns)
        yield from _cases("layer_norm", layer_norm.layer_norm_fwd_kernel, {"EPS": _EPS, **tile}, ("R", "D"))
        yield from _cases("layer_norm", layer_norm.layer_norm_bwd_kernel, tile, ("R", "D"))


def _geglu() -> Iterator[Case]:
    for kernel in (geglu.geglu_fwd_kernel, geglu.geglu_bwd_kernel):
        yield from _cases("geglu", kernel, {"DOUBLE": False}, ("R", "D"))


def _guided_step() -> Iterator[Case]:
    names = ("sample_ptr", "before_ptr", "noise_ptr", "coefficients_ptr", "following_ptr", "data_ptr")
    fp32, flags = dict.fromkeys(names, "*fp32"), {"GUIDED": True, "HAS_BEFORE": True, "HAS_NOISE": True}
    yield from _cases("guided_step", guided_step.guided_step_fwd_kernel, flags, ("E",), **fp32)
    names = ("dfollowing_ptr", "ddata_ptr", "coefficients_ptr", "dsample_ptr", "dbefore_ptr")
    fp32, flags = dict.fromkeys(names, "*fp32"), {"GUIDED": True, "HAS_DDATA": True}
    yield from _cases("guided_step", guided_step.guided_step_bwd_kernel, flags, ("E",), **fp32)


def _interleave() -> Iterator[Case]:
    for kernel in (interleave.interleave_fwd_kernel, interleave.interleave_bwd_kernel):
        yield from _cases("interleave", kernel, {}, ("P", "W", "C2"))


def _attention() -> Iterator[Case]:
    kernels = {
        "fwd": attention.attention_fwd_kernel,
        "dq": attention.attention_bwd_dq_kernel,
        "dk_dv": attention.attention_bwd_dk_dv_kernel,
        "short": attention.attention_bwd_short_kernel,
    }
    types = {"lse_ptr": "*fp32", "delta_ptr": "*fp32", "scale": "fp32"}
    wide = itertools.product(DTYPES, (40, 64, 80, 160), kernels)  # Stable Diffusion's; small models' in one dtype
    for dtype, columns, kind in [*itertools.product(("fp16",), (8, 24), kernels), *wide]:
        for config in CONFIGS.get(attention.entry(kind, columns, dtype == "fp32"), []):
            kernel = kernels[kind]
            sums = {"dk_ptr": "*fp32", "dv_ptr": "*fp32"} if kind == "short" else {}
            for rest in _rests(dtype, config) if "RESTS" in kernel.arg_names else [{}]:
                constexprs = {"D": columns, "UNIT": math.gcd(columns, 16), "UPCAST": False, **config.blocks, **rest}
                sizes = " ".join(f"{key[6:]}{value}" for key, value in config.blocks.items())
                sizes += "".join(f" rests{value}" for value in rest.values())
                name = f"{kernel.__name__} {dtype} D{columns} {sizes} warps{config.num_warps} stages{config.num_stages}"
                found = _types(kernel, constexprs, dtype, types | sums)
                yield Case(name, kernel, found, constexprs, config, ("NQ", "ROWS"), tensor_cores=dtype != "fp32")
    sums = {"parts_dk_ptr": "*fp32", "parts_dv_ptr": "*fp32"}
    yield from _cases("attention_combine", attention.attention_combine_kernel, {}, ("E",), **sums)


def _rests(dtype: str, config: Config) -> list[dict[str, int]]:
    """Return how many blocks the last keys take: none, text's one, and the most; of bfloat16, compiled alike, one."""
    most = config.blocks["BLOCK_N"] // attention.REST.value
    return [{"RESTS": rests} for rests in ((1,) if dtype == "bf16" else sorted({0, 1, most}))]


OPS: dict[str, Callable[[], Iterator[Case]]] = {
    "group_norm_silu": _group_norm_silu,
    "layer_norm": _layer_norm,
    "geglu": _geglu,
    "guided_step": _guided_step,
    "interleave": _interleave,
    "attention": _attention,
}
"""Op to its cases."""
