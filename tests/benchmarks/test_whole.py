"""The parts of a whole audit are timed, and add up."""

import time
from pathlib import Path

import pytest

from benchmarks.discovery.whole import measured, timed


def test_a_part_that_waits_takes_seconds_and_no_cpu_seconds() -> None:
    parts: dict[str, dict[str, float]] = {}
    with pytest.raises(KeyError), timed(parts, "waits"):
        time.sleep(0.2)
        raise KeyError
    assert parts["waits"]["seconds"] >= 0.2 > parts["waits"]["cpu_seconds"]


@pytest.mark.slow
def test_an_audit_with_its_page_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    found = measured(tmp_path, "tinyworld/clean", 48, ["fish"], explain=False)
    parts = found["parts"]
    assert isinstance(parts, dict) and list(parts) == ["models", "explanations and trial", "results and page"]
    assert found["cpu_seconds"] == pytest.approx(sum(part["cpu_seconds"] for part in parts.values()))
    assert (
        found["classes"] == 1 and found["pictures"] and (tmp_path / "report.html").stat().st_size == found["page_bytes"]
    )
