"""The command that estimates for a card that is not here."""

import json
import re

import pytest
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app


@pytest.mark.slow
def test_it_prints_the_plan_and_what_it_assumes():
    options = ["--gpu", "rtx3060", "--steps", "1", "--guidance", "1", "--memory", "8GiB", "--efficiency", "0.5"]
    done = CliRunner().invoke(app, ["bench", "estimate", *options])
    assert done.exit_code == 0, done.output
    for words in (
        "predicted peak",
        "estimated, for rtx3060 (12 GiB, 25.5 TFLOP/s",
        "nothing was run",
        "at 50 % of the peak",
    ):
        assert words in done.output


ROW = {
    "rival": "ours, everything kept",
    "workload": "sd15",
    "dtype": "bfloat16",
    "device": {"name": "some card"},
    "gpu": {"driver": "1"},
    "share_of_ceiling": 0.25,
    "date": "2026-01-02",
}
NOT_OURS = {"rival": "plain autograd", "share_of_ceiling": 0.1}
ON_A_CPU = {"gpu": None, "share_of_ceiling": 0.5}


@pytest.mark.slow
def test_it_takes_the_share_that_was_measured(tmp_path):
    rows = [ROW | {"share_of_ceiling": 0.9}, ROW, ROW | NOT_OURS, ROW | ON_A_CPU]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--steps", "1", "--guidance", "1", "--rows", str(tmp_path / "rows.jsonl")]
    done = CliRunner().invoke(app, ["bench", "estimate", *options])
    assert done.exit_code == 0, done.output
    floor, estimate, predicted = (int(word) for word in re.findall(r"(\d+) ms", done.output))
    assert abs(estimate - 4 * floor) <= 4 and predicted > floor
    assert "at 25 % of what a large product reaches, as sd15 in bfloat16 on some card, 2026-01-02" in done.output


@pytest.mark.parametrize("other", [ON_A_CPU, {"share_of_ceiling": float("nan")}, {"share_of_ceiling": "half"}])
def test_rows_without_such_a_share_are_refused(tmp_path, other):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW | other) + "\n")
    done = CliRunner().invoke(app, ["bench", "estimate", "--rows", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 2 and "rows: wanted a file with a row of 'ours, everything kept'" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu", "rtx4091"], "gpu: wanted one of 8 known names, nearest: rtx4090"),
        (["--model", "sd3"], "model: wanted one of 3 known names"),
        (["--memory", "8 apples"], "memory: wanted"),
        (["--memory", "900GiB"], "memory: wanted at most the 12 GiB of rtx3060, got '900GiB'"),
        (["--guidance", "0.5"], "guidance_scale: wanted a finite number of at least 1.0"),
        (["--guidance", "inf"], "guidance_scale: wanted a finite number of at least 1.0"),
        (["--guidance", "nan"], "guidance_scale: wanted a finite number of at least 1.0"),
        (["--efficiency", "nan"], "efficiency: wanted 0.01 to 1"),
        (["--steps", "100000"], "--steps"),
        (["--batch", "1000000000000"], "--batch"),
    ],
)
def test_bad_input_is_named(options, message):
    done = CliRunner().invoke(app, ["bench", "estimate", *options])
    assert done.exit_code == 2 and message in done.output
