"""The versions and devices that doctor prints and results record are those of this machine."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffexplain_fast import environment
from diffexplain_fast.environment import default_device, device_record, processor_quota, versions


def test_versions_are_those_that_are_imported() -> None:
    found = versions()
    assert found["torch"] == torch.__version__ and found["python"] == platform.python_version()
    assert set(found) == {
        "python",
        "diffexplain_fast",
        "torch",
        "diffusers",
        "transformers",
        "triton",
        "xformers",
        "numpy",
    }


def test_the_record_is_json_and_names_every_device() -> None:
    record = device_record()
    assert json.loads(json.dumps(record)) == record
    assert record["cpu"] and record["threads"] == torch.get_num_threads()
    assert len(record["cuda"]) == torch.cuda.device_count()
    assert default_device().type == ("cuda" if record["cuda"] else "cpu")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processor_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("quota", "busy", "given", "said"),
    [
        (None, 0, {}, {"GOMP_SPINCOUNT": "10000"}),
        (1.5, 0, {}, {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": "1"}),
        (0.5, 0, {}, {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": "1"}),
        (1000.0, 0, {}, {"GOMP_SPINCOUNT": "10000"}),
        (1.0, 9, {"OMP_NUM_THREADS": "7", "GOMP_SPINCOUNT": "5"}, {"OMP_NUM_THREADS": "7", "GOMP_SPINCOUNT": "5"}),
        (None, 0, {"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        (None, 1, {}, {"GOMP_SPINCOUNT": "10000"}),  # 7 of 8, and the process may use 4
        (None, 24, {}, {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": "2"}),
        (None, 1000, {}, {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": "1"}),
    ],
)
def test_threads_fit_a_shared_machine_unless_the_user_says_otherwise(
    quota: float | None, busy: int, given: dict[str, str], said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "processor_quota", lambda: quota)
    monkeypatch.setattr(environment, "busy_processors", lambda: busy)
    monkeypatch.setattr(environment.os, "environ", dict(given))
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda process: range(4), raising=False)
    environment.share_processors()
    assert environment.os.environ == said


@pytest.mark.parametrize(
    ("machine", "others", "share"), [(2, 0, 2), (2, 1, 1), (2, 8, 1), (32, 4, 28), (32, 32, 16), (1, 3, 1)]
)
def test_a_share_is_that_of_as_many_threads_as_processors(machine: int, others: int, share: int) -> None:
    assert environment.fair_share(machine, others) == share


def test_what_runs_for_a_moment_only_is_not_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, looks = tmp_path / "loadavg", iter(["6/100", "9/100", "4/100", "7/100"])
    monkeypatch.setattr(environment.time, "sleep", lambda _: None)
    monkeypatch.setattr(Path, "read_text", lambda path: f"0.10 0.20 0.30 {next(looks)} 123\n")
    assert environment.busy_processors(file=file) == 3  # one of the four is this process
    monkeypatch.undo()
    assert environment.busy_processors(file=file) == 0  # another system
    file.write_text("nothing that could be read")
    assert environment.busy_processors(file=file) == 0


def test_the_command_line_decides_before_torch_is_imported() -> None:
    code = "import os, sys, diffexplain_fast.cli as cli; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", code], env=free, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "10000"]


@pytest.mark.parametrize(
    ("rank", "processes", "devices", "device"),
    [(0, 1, 4, "cuda"), (3, 4, 4, "cuda:3"), (5, 8, 4, "cuda:1"), (1, 2, 1, "cuda:0")],
)
def test_every_rank_of_a_machine_has_a_device_of_its_own(
    rank: int, processes: int, devices: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    for name, value in (("RANK", rank), ("WORLD_SIZE", processes), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))
    assert default_device() == torch.device(device)
