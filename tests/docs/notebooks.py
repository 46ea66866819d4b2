"""Notebooks run without a kernel: ``python -m tests.docs.notebooks`` stores the outputs of all in their files."""

import ast
import base64
import contextlib
import io
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docs.reading import ROOT

_UNITS, _RELATIVE = 10, 0.05
"""By how much a number of an output may differ from the stored one: units of its last digit, or a share of it."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_BAR, _TIME = re.compile(r"\d+%\|"), re.compile(r"\d+(?:\.\d+)? ?(?:s|ms|seconds)\b")


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


def differences(stored: str, found: str) -> list[str]:
    """Return what differs between two texts of an output, line by line; nothing where they say the same.

    Numbers may differ a little, as on another machine; see ``_UNITS``.
    Progress bars and times, which differ between any two runs, are left out.

    Args:
        stored: in the file of the notebook.
        found: of a run.
    """
    one, two = _lines(stored), _lines(found)
    if len(one) != len(two):
        return [f"{len(one)} lines stored, {len(two)} found"]
    return [f"stored {a!r}, found {b!r}" for a, b in zip(one, two, strict=True) if not _alike(a, b)]


def _lines(text: str) -> list[str]:
    return [_TIME.sub("", line) for line in text.splitlines() if not _BAR.search(line)]


def _alike(stored: str, found: str) -> bool:
    words = [[" ".join(part.split()) for part in _NUMBER.split(line)] for line in (stored, found)]
    numbers = zip(_NUMBER.finditer(stored), _NUMBER.finditer(found), strict=False)
    return words[0] == words[1] and all(_close(a, b) for a, b in numbers)


def _close(stored: re.Match[str], found: re.Match[str]) -> bool:
    """Return whether two numbers are alike: counts and sizes must be equal, what is measured may differ a little."""
    mantissa, _, exponent = stored[0].partition("e")
    measured = "." in mantissa or bool(exponent) or stored.string.startswith(" %", stored.end())
    last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    one, other = float(stored[0]), float(found[0])
    return one == other or (measured and math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_UNITS * last_digit))


if __name__ == "__main__":
    given = [Path(name).resolve() for name in sys.argv[1:]] or sorted((ROOT / "examples").glob("*.ipynb"))
    for path in given:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # a notebook leaves pictures there
            store(path)
