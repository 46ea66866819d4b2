"""What pytest-benchmark records: what the project's other records say, and no name of a machine or person."""

from typing import Any

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.bench.rows import commit


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Leave machines out of the comparison: shares are compared across them."""
    machine_info.clear()


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    """Name the commit as other records do."""
    commit_info.clear()
    commit_info["id"] = commit()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Say on what it was measured, beside what is compared."""
    output_json |= {"device": device_record() | {"threads": 1}, "versions": versions()}
