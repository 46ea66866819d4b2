"""Every kernel compiled for every chip: no spills, inside the chip's limits, no worse than the committed table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from diffexplain_fast.kernels.configs import CONFIGS, Config

from benchmarks import aot, aot_cases

ROOT = Path(__file__).parents[2]


def compiled(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run ``benchmarks.aot`` as the compiler, which this process cannot be: it may have the interpreter's kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder / "cache")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    output = folder / "aot.json"
    command = [sys.executable, "-m", "benchmarks.aot", "--output", str(output), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=590)
    return done, output


@pytest.mark.slow
@pytest.mark.parametrize("chip", aot.SHARED_LIMIT)
def test_every_kernel(chip: int, tmp_path: Path) -> None:
    done, output = compiled(tmp_path, "--chip", str(chip))
    assert done.returncode == 0, done.stdout + done.stderr
    now, committed = json.loads(output.read_text()), json.loads(aot.RESULT.read_text())
    if now["triton"] == committed["triton"]:  # another compiler has other figures; the limits above hold for all
        assert not (found := aot.worse(now["kernels"], committed["kernels"])), "\n".join(found)


def test_the_committed_table_is_complete() -> None:
    table = json.loads(aot.RESULT.read_text())["kernels"]
    cases = [case for op in aot_cases.OPS.values() for case in op()]
    assert [case.name for case in cases] == list(table), "run python -m benchmarks.aot and commit its table"
    assert all(list(usage) == [f"sm_{chip}" for chip in aot.SHARED_LIMIT] for usage in table.values())
    for case in cases:
        for chip in aot.SHARED_LIMIT:
            usage = aot.Usage(*table[case.name][f"sm_{chip}"])
            assert not aot.over_limit(case, chip, usage)
            exact = " fp32 " in case.name and not usage.tensor_core_instructions  # TF32 would cost three digits
            assert case.tensor_cores or exact or " fp32 " not in case.name


def test_every_configuration_is_a_case() -> None:
    compiled_configs = [case.config for op in aot_cases.OPS.values() for case in op()]
    assert all(config in compiled_configs for configs in CONFIGS.values() for config in configs)


def test_what_is_over_a_limit_or_worse_is_found() -> None:
    case = aot_cases.Case("k", None, {}, {}, Config({}, 4), tensor_cores=True)
    assert len(aot.over_limit(case, 86, aot.Usage(255, 8, 100 * 1024, 0))) == 3
    assert aot.over_limit(case, 90, aot.Usage(255, 0, 100 * 1024, 2)) == []
    committed = {"k": {"sm_80": [32, 0, 1024, 0]}}
    assert aot.worse({"k": {"sm_80": [31, 0, 1024, 0]}}, committed) == []
    assert len(aot.worse({"k": {"sm_80": [33, 0, 2048, 0]}}, committed)) == 2
    assert len(aot.worse({"l": {"sm_80": [32, 0, 1024, 0]}}, committed)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("part", [("--op", "guided_step"), ("--chip", "90")])
def test_a_part_does_not_replace_the_table(tmp_path: Path, part: tuple[str, str]) -> None:
    done, _ = compiled(tmp_path, *part, "--output", str(aot.RESULT))
    assert done.returncode == 2 and "committed table" in done.stderr
