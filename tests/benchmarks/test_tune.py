"""The tuning program goes as far as a machine without a card can, and leaves the tables as they were."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interpreter import without_interpreter

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]


def run(code: str, tmp_path: Path) -> str:
    # In a process of its own: here the interpreter runs the kernels, and there is no driver to be told.
    environment = without_interpreter() | {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_candidate_is_compiled_and_has_a_row(tmp_path: Path) -> None:
    out = tmp_path / "tune.json"
    code = "from benchmarks.tune import __main__ as tune; sys.argv = ['tune', '--dry', '--only', 'interleave', "
    said = run(f"import sys\n{code}'--compile-seconds', '250', '--out', {str(out)!r}]; tune.main()", tmp_path)
    rows = json.loads(out.read_text())["rows"]
    assert "14 kinds, 0 not compiled" in said and len(rows) == 14 and not any("failed" in row for row in rows)
    assert rows[0]["kernel"] == "interleave_fwd_kernel" and not rows[0]["fusion"] and rows[1]["fusion"]


CODE = """
import torch
from benchmarks.tune.__main__ import jobs_of
from benchmarks.tune.candidates import CASES
from diffexplain_fast.kernels import configs, group_norm_silu
before, run = {name: list(table) for name, table in configs.CONFIGS.items()}, configs._run
programs = group_norm_silu._PROGRAMS
for cases in CASES.values():
    for case in cases:
        jobs = jobs_of(case, torch.device("cpu"))
        assert {job.kernel.__name__ for job in jobs} == set(case.kernels), case
        assert len(jobs) == len(case.kernels) * len(case.candidates), case
        assert jobs[0].candidate.config == configs.CONFIGS[case.entry][0]
jobs = jobs_of(CASES["group_norm"][0], torch.device("cpu"))
assert len({job.key() for job in jobs}) > len(jobs) / 4
assert configs.CONFIGS == before and configs._run is run and group_norm_silu._PROGRAMS == programs
"""


def test_every_candidate_makes_a_launch_and_nothing_stays_changed(tmp_path: Path) -> None:
    run(CODE, tmp_path)
