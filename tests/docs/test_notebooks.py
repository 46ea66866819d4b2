"""The notebooks run from top to bottom, and their stored outputs are small, and those of the package as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.ops.doctor import kernel_status
from tests.docs.notebooks import code_cells, differences, run
from tests.docs.reading import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
_LARGEST = 60_000
"""Bytes of a notebook with its outputs."""


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs, stored = run(_read(path), path.name), [cell["outputs"] for cell in code_cells(_read(path))]
    kinds = [[[output["output_type"] for output in cell] for cell in cells] for cells in (outputs, stored)]
    assert kinds[0] == kinds[1]
    if kernel_status()["C++ kernels"] != "loaded":
        pytest.skip("the outputs are stored with the C++ kernels, whose plan and rounding they show")
    wrong = [
        said
        for cells in zip(stored, outputs, strict=True)
        for one, other in zip(*cells, strict=True)
        for said in differences(_text(one), _text(other))
    ]
    assert not wrong, f"stored outputs of another package; python -m tests.docs.notebooks stores them anew: {wrong}"


def _text(output: dict[str, Any]) -> str:
    """Return the text of an output, which a notebook may store as a list of lines."""
    return "".join(output.get("text") or output["data"]["text/plain"])


@pytest.mark.parametrize(
    ("stored", "found", "alike"),
    [
        ("desert +6.11 [-2.18, +14.4]", "desert   +6.20 [-2.10, +14.9]", True),
        ("desert +6.11", "desert +6.51", False),
        ("truth -1.30", "truth -0.57", False),
        ("norm 0.0538", "norm 0.0338", False),
        ("difference 2e-05", "difference 4e-05", True),
        ("norm 5.38e-02", "norm 3.38e-01", False),
        ("Size([1, 4])", "Size([1, 6])", False),
        ("100 % of them", "97 % of them", True),
        ("a shortcut", "Undecided", False),
        ("a\nb", "a", False),
        ("took 3.2 s\n 40%|####  |", "took 40 s\n", True),
    ],
)
def test_numbers_may_differ_a_little_and_words_not_at_all(stored: str, found: str, alike: bool) -> None:
    assert (not differences(stored, found)) == alike


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_small_and_was_run_in_order(path: Path) -> None:
    cells = code_cells(_read(path))
    assert path.stat().st_size <= _LARGEST
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])


def test_there_are_notebooks_of_an_audit_and_of_the_engine() -> None:
    assert [path.name for path in NOTEBOOKS] == ["audit.ipynb", "engine.ipynb"]


def test_the_runner_stores_text_and_values() -> None:
    cells = [{"cell_type": "code", "source": [line]} for line in ("x = 2", "print(x)", "x + 1")]
    nothing, printed, value = run({"cells": cells}, "three lines")
    assert nothing == [] and printed[0]["text"] == "2\n" and value[0]["data"] == {"text/plain": "3"}
