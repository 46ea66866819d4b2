"""The notebooks run from top to bottom, and their stored outputs are small."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.docs.notebooks import code_cells, run
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
