"""The signature of every kernel carries the shape of each pointer, in a comment or in the docstring."""

import ast
import re
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "kernels" / "fused").glob("*.py"))


def pointers_without_shape(source: str) -> list[str]:
    """Return the pointers of kernels whose shape is neither beside them nor in the docstring.

    A docstring may name another kernel of the file, whose shapes then count too.
    """
    kernels = [
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel")
    ]
    texts = {kernel.name: ast.get_docstring(kernel) or "" for kernel in kernels}
    missing = []
    for kernel in kernels:
        text = texts[kernel.name]
        text += " ".join(shapes for name, shapes in texts.items() if name in text)
        for argument in kernel.args.args:
            line = source.splitlines()[argument.lineno - 1]
            beside = re.search(rf"\b{argument.arg},  # (\[|like )", line)
            named = re.search(rf"\b{argument.arg.removesuffix('_ptr')}\b[^.]*\[", text)
            if argument.arg.endswith("_ptr") and not beside and not named:
                missing.append(f"{kernel.name}: {argument.arg}")
    return missing


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_pointer_of_a_kernel_has_a_shape(path: Path) -> None:
    assert pointers_without_shape(path.read_text(encoding="utf-8")) == []


def test_a_pointer_without_a_shape_is_found() -> None:
    source = 'def a_kernel(\n    x_ptr,  # [R]\n    y_ptr,\n    z_ptr,\n):\n    """Store z [R]."""\n'
    assert pointers_without_shape(source) == ["a_kernel: y_ptr"]
