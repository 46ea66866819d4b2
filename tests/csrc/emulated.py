"""The CUDA sources on the CPU: ``python -m tests.csrc.emulated <folder>`` compiles them with g++ and checks every op.

Launches become calls of ``emulation/cuda_runtime.h``, and the ops take CPU tensors. Indices, tiles, tails, vector loads
and the order of the sums are those of a GPU; its arithmetic and its races are not tested.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csrc import compile_csrc

ROOT = Path(__file__).parents[2]
SUBSTITUTIONS = (
    (r"(\w+(?:<[^<>]*>)?)<<<(.+?), THREADS, 0, .+?>>>\(", r"launch(\1, \2, THREADS, "),
    (r"STD_CUDA_KERNEL_LAUNCH_CHECK\(\);", ""),
    (r"const torch::stable::accelerator::DeviceGuard .*?;", ""),
    (r"TORCH_ERROR_CODE_CHECK\(aoti_torch_get_current_cuda_stream\(.*?;", ""),
    (r"is_cuda\(\)", "is_cpu()"),
    (r"\(diffexplain_fast, CUDA, m\)", "(diffexplain_fast, CPU, m)"),
)
SHAPES = (  # images, channels of x and of skip, side, groups
    (1, 1, 0, 1, 1),
    (2, 24, 16, 9, 5),  # vectors of four, a group with channels of x and skip, two chunks
    (1, 72, 8, 11, 4),  # vectors of eight, more than one tile
    (2, 35, 7, 3, 6),  # no vectors
)


def build(folder: Path) -> Path:
    """Translate the CUDA sources and compile them for the CPU."""
    (folder / "cuda").mkdir(parents=True)
    (folder / "checks.h").write_text((ROOT / "csrc" / "checks.h").read_text())
    for path in (ROOT / "csrc" / "cuda").iterdir():
        text = path.read_text()
        for pattern, replacement in SUBSTITUTIONS:
            text = re.sub(pattern, replacement, text, flags=re.S)
        (folder / "cuda" / (f"{path.stem}.cpp" if path.suffix == ".cu" else path.name)).write_text(text)
    library, sources = folder / "_C_emulated.so", sorted(map(str, (folder / "cuda").glob("*.cpp")))
    flags = ("-std=c++20", "-O1", "-pthread", f"-I{Path(__file__).parent / 'emulation'}")
    subprocess.run(compile_csrc.cpu_command(sources, str(library), *flags), check=True)
    return library


def check(name: str, op: Callable[..., Any], inputs: dict[str, Tensor], fixed: dict[str, Any]) -> None:
    """Compare results and gradients with the error budget of the reference in the same dtype."""
    from tests.budget import assert_within_budget

    def evaluate(impl: str, dtype: torch.dtype | None, cotangents: list[Tensor]) -> tuple[Tensor, ...]:
        def cast(value: Any) -> Any:
            return value.to(dtype) if dtype and isinstance(value, Tensor) else value

        given = {key: cast(value.detach()).requires_grad_() for key, value in inputs.items()}
        made = op(**given, **{key: cast(value) for key, value in fixed.items()}, impl=impl)
        made = tuple(made) if isinstance(made, tuple) else (made,)
        if not cotangents:
            cotangents += [torch.randn_like(y) for y in made]
        return *made, *torch.autograd.grad(made, list(given.values()), [cast(dy) for dy in cotangents])

    cotangents: list[Tensor] = []
    runs = (evaluate(*how, cotangents) for how in (("reference", None), ("cpp", None), ("reference", torch.float64)))
    for i, (plain, got, truth) in enumerate(zip(*runs, strict=True)):
        assert_within_budget(f"{name}, result {i}", got.detach(), plain.detach(), truth.detach(), factor=3.0)


def check_all(dtype: torch.dtype) -> None:
    """Check both ops in a dtype, at every shape."""
    from diffexplain_fast.ops import group_norm_silu, guided_step

    for images, c1, c2, side, groups in SHAPES:
        wide, c = c1 % 2 == 0, c1 + c2
        inputs = {"x": torch.randn(images, c1, side, side).to(dtype) + 3}
        if c2:
            inputs |= {"skip": torch.randn(images, c2, side, side).to(dtype), "shift": torch.randn(images, c).to(dtype)}
        weights = {key: torch.randn(c).to(torch.float32 if wide else dtype) for key in ("weight", "bias")}
        fixed = {**weights, "num_groups": groups, "silu": side != 3}
        check(f"group_norm_silu {(images, c1, c2, side)} {dtype}", group_norm_silu, inputs, fixed)
        rows = {"sample": torch.randn(images, 1, side, c), "output": torch.randn(2 * images, 1, side, c).to(dtype)}
        more = {"before": torch.randn(images, 1, side, c)} if c2 else {"output": rows["output"][:images]}
        noise = {"noise": torch.randn(images, 1, side, c) if c2 else None}
        check(f"guided_step {side}, {c} {dtype}", guided_step, rows | more, noise | {"coefficients": torch.randn(8)})


def main(folder: str) -> None:
    """Compile, and check every op in every dtype."""
    load = torch.ops.load_library
    torch.ops.load_library = lambda path: None  # not the installed library
    from diffexplain_fast.ops import _impl

    load(str(build(Path(folder))))
    _impl.CPP_MISSING = ""  # CPU tensors run the C++ implementation, which is now that of the CUDA sources
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        check_all(dtype)


if __name__ == "__main__":
    main(sys.argv[1])
