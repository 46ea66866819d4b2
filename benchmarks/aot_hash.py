"""A hash of everything that a compiled kernel follows from: an entry of the committed table is current while it stays.

Read are the kernel's own file and the kernel files that it imports: their ``@triton.jit`` functions without docstrings
and comments, and their constants. Launchers and prose may change.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

import triton

from benchmarks.aot_cases import Case

KERNELS = Path(__file__).parents[1] / "kernels" / "fused"
_PACKAGE = "diffexplain_fast.kernels"


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
