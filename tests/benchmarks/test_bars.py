"""Resuming the measurement of the bars keeps rows of the same run only."""

from pathlib import Path

import pytest

from benchmarks.bars import kept_rows
from diffexplain_fast.storage import write_json_atomic

ABOUT = {"command": "python -m benchmarks.bars --seed 0", "versions": {"torch": "2.13.0"}}


def test_rows_of_the_same_run_are_kept(tmp_path: Path) -> None:
    assert kept_rows(tmp_path / "none.json", ABOUT) == []
    write_json_atomic(tmp_path / "bars.json", {**ABOUT, "rows": [{"label": "fish"}], "bars": {}})
    assert kept_rows(tmp_path / "bars.json", ABOUT) == [{"label": "fish"}]


@pytest.mark.parametrize("name", ABOUT)
def test_rows_of_another_run_are_refused(tmp_path: Path, name: str) -> None:
    write_json_atomic(tmp_path / "bars.json", {**ABOUT, name: "another", "rows": []})
    with pytest.raises(SystemExit, match=rf"is of another run \({name} differ\)"):
        kept_rows(tmp_path / "bars.json", ABOUT)
