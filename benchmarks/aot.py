"""Compile kernels for every chip without a GPU: ``make aot`` writes results/aot.json, and nothing else does.

Registers, stack (which means spills), shared memory and tensor-core instructions of each, beside a hash of everything
that a kernel follows from: its own file and the kernel files that it imports, of these the ``@triton.jit`` functions
without docstrings and comments, and the constants. Launchers and prose may change; only kernels whose hash changed are
compiled. Tests hold the table to the hashes and to the limits of each chip, and compile three entries at random.
"""

import argparse
import ast
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.aot_cases import OPS, Case
from diffexplain_fast.storage import write_bytes_atomic

KERNELS = Path(__file__).parents[1] / "kernels" / "fused"
_PACKAGE = "diffexplain_fast.kernels"
RESULT = Path(__file__).parent / "results" / "aot.json"
SHARED_LIMIT = {80: 163, 86: 99, 89: 99, 90: 227, 120: 99}
"""Compute capability to KiB of shared memory that one block may have (CUDA C++ programming guide, table 29)."""
_TENSOR_CORE = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")

Table = dict[str, dict[str, list[int] | str]]
"""Name of a case to its "hash", and to the figures of each chip."""


class Usage(NamedTuple):
    """The resources of a compiled kernel."""

    registers: int  # per thread, at most 255
    stack: int  # bytes per thread; above 0 it spills
    shared: int  # bytes per block
    tensor_core_instructions: int  # in its machine code's listing, loops counted once


def committed_table() -> Any:
    """Return the committed table: Triton's version, columns, kernels."""
    return json.loads(RESULT.read_text())


def source(case: Case) -> tuple[ASTSource, dict[str, Any]]:
    """Return what the compiler reads of a case, and its options."""
    names = case.kernel.arg_names
    types = {name: "constexpr" if name in case.constexprs else case.types[name] for name in names}
    # As at run time: without these there are no vector loads, and the figures are those of another kernel.
    wide = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if types[n][0] == "*" or n in case.aligned}
    warps, stages = case.config.num_warps, case.config.num_stages
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": case.fp_fusion}
    return ASTSource(fn=case.kernel, signature=types, constexprs=dict(case.constexprs), attrs=wide), options


def compile_case(case: Case, chip: int) -> Usage:
    """Compile a case for ten times a compute capability, such as 90, and return what it uses."""
    read, options = source(case)
    made = triton.compile(read, target=GPUTarget("cuda", chip, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = _USAGE.search(dump)
    if usage is None:
        raise RuntimeError(f"cuobjdump told nothing about {case.name}: {dump}")
    registers, stack = map(int, usage.groups())
    return Usage(registers, stack, made.metadata.shared, len(_TENSOR_CORE.findall(made.asm["ptx"])))


def over_limit(case: Case, chip: int, usage: Usage) -> list[str]:
    """Return a line for each problem of a case compiled for a chip: spills, too much shared memory, no tensor cores."""
    found = [f"{usage.stack} bytes of stack: it spills"] if usage.stack else []
    if usage.shared > SHARED_LIMIT[chip] * 1024:
        found.append(f"{usage.shared} bytes of shared memory, {SHARED_LIMIT[chip]} KiB exist")
    if case.tensor_cores and not usage.tensor_core_instructions:
        found.append("no tensor-core instruction")
    return [f"{case.name} sm_{chip}: {problem}" for problem in found]


def hash_of(case: Case) -> str:
    """Return the hash of a case: source, types, constants, warps, stages, and Triton's version."""
    stem = case.kernel.fn.__module__.removeprefix(f"{_PACKAGE}.")
    parts = {
        "source": [source_of(name) for name in sorted(with_imports(stem))],
        "kernel": case.kernel.fn.__name__,
        "types": dict(case.types),
        "constants": {name: str(value) for name, value in case.constexprs.items()},
        "config": [case.config.num_warps, case.config.num_stages],
        "options": [list(case.aligned), case.fp_fusion],
        "triton": triton.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _tree(stem: str) -> ast.Module:
    return ast.parse((KERNELS / f"{stem}.py").read_text(encoding="utf-8"))


def with_imports(stem: str) -> set[str]:
    """Return a kernel file and those that it imports, directly or not, except the table of configurations."""
    found, left = set(), [stem]
    while left:
        name = left.pop()
        if name in found or name == "configs":
            continue
        found.add(name)
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
                left.append((node.module or "").removeprefix(f"{_PACKAGE}."))
    return found


@cache
def source_of(stem: str) -> str:
    """Return a kernel file's jit functions without docstrings, and its constants."""
    kept = []
    for node in _tree(stem).body:
        if isinstance(node, ast.Assign):
            kept.append(ast.unparse(node))
        elif isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(one) for one in node.decorator_list):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            kept.append(ast.unparse(ast.FunctionDef(**{**vars(node), "body": body or [ast.Pass()]})))
    return "\n".join(kept)


def outdated(committed: Table) -> list[Case]:
    """Return the cases whose entry in a table is missing, or follows from something else than what is here."""
    every = [case for op in OPS.values() for case in op()]
    return [case for case in every if committed.get(case.name, {}).get("hash") != hash_of(case)]


def main() -> int:
    """Compile, write the table, and return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--op", choices=sorted(OPS), action="append", help="only this op, for a look while working")
    parser.add_argument("--chip", type=int, choices=SHARED_LIMIT, action="append", help="only this chip, such as 90")
    parser.add_argument("--random", type=int, help="only so many cases, drawn at random")
    parser.add_argument("--all", action="store_true", help="compile what has not changed, too")
    arguments = parser.parse_args()
    if triton.knobs.runtime.interpret:
        parser.error("TRITON_INTERPRET is set: the interpreter's kernels cannot be compiled")
    some = arguments.op or arguments.chip or arguments.random
    if some and arguments.output == RESULT:
        parser.error("--op, --chip and --random leave cases out: give them another --output than the committed table")
    chips = arguments.chip or list(SHARED_LIMIT)
    cases = [case for op in arguments.op or OPS for case in OPS[op]()]
    if arguments.random:
        cases = random.SystemRandom().sample(cases, arguments.random)
    committed: Table = {} if some or arguments.all else committed_table()["kernels"]
    changed = {case.name for case in outdated(committed)}
    table: Table = {}
    problems = []
    for case in cases:
        if case.name not in changed:
            table[case.name] = committed[case.name]
            continue
        found = {chip: compile_case(case, chip) for chip in chips}
        problems += [line for chip, usage in found.items() for line in over_limit(case, chip, usage)]
        table[case.name] = {"hash": hash_of(case), **{f"sm_{chip}": list(usage) for chip, usage in found.items()}}
    # A line per kernel, so that a change is a readable line of a diff.
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(usage)}" for name, usage in table.items())
    head = json.dumps({"triton": triton.__version__, "columns": Usage._fields})
    write_bytes_atomic(arguments.output, f'{head[:-1]}, "kernels": {{\n{lines}\n}}}}\n'.encode())
    compiled = len(changed & {case.name for case in cases})
    summary = f"{compiled} of {len(table)} kernels compiled for {len(chips)} chips: {arguments.output}"
    sys.stdout.write("\n".join([*problems, summary, ""]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
