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
    ("quota", "given", "said"),
    [
        (None, {}, {"GOMP_SPINCOUNT": "10000"}),
        (1.5, {}, {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": "1"}),
        (0.5, {}, {"GOMP_SPINCOUNT": "10000", "OMP_NUM_THREADS": "1"}),
        (1000.0, {}, {"GOMP_SPINCOUNT": "10000"}),
        (1.0, {"OMP_NUM_THREADS": "7", "GOMP_SPINCOUNT": "5"}, {"OMP_NUM_THREADS": "7", "GOMP_SPINCOUNT": "5"}),
        (None, {"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_threads_fit_a_shared_machine_unless_the_user_says_otherwise(
    quota: float | None, given: dict[str, str], said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "processor_quota", lambda: quota)
    monkeypatch.setattr(environment.os, "environ", dict(given))
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 8)
    environment.share_processors()
    assert environment.os.environ == said


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
