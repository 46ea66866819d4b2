"""Notebooks run without a kernel: ``python -m tests.docs.notebooks FILE`` stores the outputs in the file."""

import ast
import base64
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a notebook that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook: dict[str, Any], name: str, replace: Callable[[str], str] = str) -> list[list[dict[str, Any]]]:
    """Run the code of a notebook from top to bottom, and return the outputs of each cell in the notebook's format.

    Args:
        notebook: content of the file.
        name: name of the file, for tracebacks.
        replace: function of the source of each cell, which returns the source that runs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        tree = ast.parse(replace("".join(cell["source"])))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        printed, place, value = io.StringIO(), f"{name}, cell {number}", None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, place, "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), place, "eval"), names)
        found = [{"output_type": "stream", "name": "stdout", "text": printed.getvalue()}] if printed.getvalue() else []
        outputs.append(found if value is None else [*found, _shown(value, number)])
    return outputs


def _shown(value: object, number: int) -> dict[str, Any]:
    """Return the value of a cell's last line: its text, and its picture if it is one."""
    data = {"text/plain": re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))}
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}


def store(path: Path) -> None:
    """Run a notebook, and write its outputs into its file."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = run(notebook, path.name)
    for number, (cell, found) in enumerate(zip(code_cells(notebook), outputs, strict=True), start=1):
        cell["outputs"], cell["execution_count"] = found, number
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    store(Path(sys.argv[1]))
