"""The cases of ``benchmarks.aot``: every kernel with every configuration and dtype, and all of its flags on.

An op adds its kernels to ``aot_cases.toml``, or a generator of cases to ``OPS`` where they depend on more than a table
says.
"""

import itertools
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from diffexplain_fast.kernels import attention
from diffexplain_fast.kernels.configs import CONFIGS, FP_FUSION, Config

DTYPES = ("fp16", "bf16", "fp32")
_FLOAT32 = {"mean_ptr", "rstd_ptr", "origin_ptr", "means_ptr", "squares_ptr"}
_FLOAT32 |= {"sums_dn_ptr", "sums_dn_n_ptr", "mean_dn_ptr", "mean_dn_n_ptr"}
TABLE: dict[str, list[dict[str, Any]]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


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


def _cases(
    configs: str, kernel: Any, flags: Mapping[str, Any], aligned: Sequence[str], other: Mapping[str, str]
) -> Iterator[Case]:
    """Yield a kernel in every dtype and in every configuration of one entry of ``CONFIGS``, with the same flags."""
    for dtype, config in itertools.product(DTYPES, CONFIGS[configs]):
        constexprs = {**flags, **config.blocks}
        sizes = " ".join(f"{key[6:]}{value}" for key, value in constexprs.items() if key.startswith("BLOCK_"))
        name = f"{kernel.__name__} {dtype} {sizes} warps{config.num_warps} stages{config.num_stages}"
        yield Case(name, kernel, _types(kernel, constexprs, dtype, other), constexprs, config, tuple(aligned))


def _of_table(module: ModuleType, kernels: Sequence[dict[str, Any]]) -> Iterator[Case]:
    """Yield the cases of an op's kernels in ``aot_cases.toml``."""
    for each in kernels:
        types = dict.fromkeys(each.get("fp32_pointers", ()), "*fp32") | each.get("types", {})
        tiles = [module.blocks(columns, each["configs"]) for columns in each.get("columns", ())] or [{}]
        for tile, kernel in itertools.product(tiles, [getattr(module, name) for name in each["kernels"]]):
            flags = {name: value for name, value in each.get("flags", {}).items() if name in kernel.arg_names}
            yield from _cases(each["configs"], kernel, flags | tile, each["aligned"], types)


def _attention() -> Iterator[Case]:
    kernels = {
        "fwd": attention.attention_fwd_kernel,
        "dq": attention.attention_bwd_dq_kernel,
        "dk_dv": attention.attention_bwd_dk_dv_kernel,
        "text_dq": attention.attention_bwd_text_dq_kernel,
        "short": attention.attention_bwd_short_kernel,
    }
    types = {"lse_ptr": "*fp32", "delta_ptr": "*fp32", "scale": "fp32"}
    wide = itertools.product(DTYPES, (40, 64, 80, 160), kernels)  # Stable Diffusion's; small models' in one dtype
    for dtype, columns, kind in [*itertools.product(("fp16",), (8, 24), kernels), *wide]:
        for config in CONFIGS.get(attention.entry(kind, columns, dtype == "fp32"), []):
            kernel = kernels[kind]
            sums = {"dk_ptr": "*fp32", "dv_ptr": "*fp32"} if kind == "short" else {}
            for rest in _rests(kind, dtype, config) if "RESTS" in kernel.arg_names else [{}]:
                constexprs = {"D": columns, "UNIT": math.gcd(columns, 16), "UPCAST": False, **config.blocks, **rest}
                sizes = " ".join(f"{key[6:]}{value}" for key, value in config.blocks.items())
                sizes += "".join(f" rests{value}" for value in rest.values())
                name = f"{kernel.__name__} {dtype} D{columns} {sizes} warps{config.num_warps} stages{config.num_stages}"
                found = _types(kernel, constexprs, dtype, types | sums)
                yield Case(name, kernel, found, constexprs, config, ("NQ", "ROWS"), tensor_cores=dtype != "fp32")
    sums = {"parts_dk_ptr": "*fp32", "parts_dv_ptr": "*fp32"}
    yield from _cases("attention_combine", attention.attention_combine_kernel, {}, ("E",), sums)


def _rests(kind: str, dtype: str, config: Config) -> list[dict[str, int]]:
    """Return how many blocks the last keys take: none, text's one, and the most; of bfloat16, compiled alike, one."""
    most = 1 if kind == "text_dq" else config.blocks["BLOCK_N"] // attention.REST.value
    return [{"RESTS": rests} for rests in ((1,) if dtype == "bf16" else sorted({0, 1, most}))]


OPS: dict[str, Callable[[], Iterator[Case]]] = {
    **{name: partial(_of_table, import_module(f"diffexplain_fast.kernels.{name}"), TABLE[name]) for name in TABLE},
    "attention": _attention,
}
"""Op to its cases."""
