"""Files and functions that are too long."""

import ast
from pathlib import Path

from tests.architecture.house import (
    FILE_LINES,
    FUNCTION_LINES,
    INIT_LINES,
    KERNEL_LINES,
    MEASURING,
    MEASURING_LINES,
    METHOD_LINES,
    PACKAGE,
    SETUP_LINES,
)
from tests.architecture.source import Scope, sources


def over_budget(root: Path) -> list[str]:
    """Return files and functions that are longer than the house allows."""
    found = []
    for path, tree in sources(root, PACKAGE, "kernels", "benchmarks", "tests", "setup.py"):
        limit = FILE_LINES
        if path == "setup.py":
            limit = SETUP_LINES
        elif path.endswith("__init__.py"):
            limit = INIT_LINES
        elif path.startswith(f"{PACKAGE}/methods/"):
            limit = METHOD_LINES
        elif path.startswith("kernels/"):
            limit = KERNEL_LINES
        if (lines := len((root / path).read_text(encoding="utf-8").splitlines())) > limit:
            found.append(f"{path}: {lines} lines, over {limit}")
        for node in ast.walk(tree):
            if isinstance(node, Scope) and (length := function_lines(node)) > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, over {FUNCTION_LINES}")
    return found


def too_much_measuring(root: Path) -> list[str]:
    """Return a line if measuring has more lines of Python than the house allows."""
    paths = {path for pattern in MEASURING for path in root.glob(pattern)}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    return [f"measuring: {lines} lines, over {MEASURING_LINES}"] if lines > MEASURING_LINES else []


def function_lines(node: Scope) -> int:
    """Return the number of lines of a function without its docstring, whose length depends on the arguments."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total
