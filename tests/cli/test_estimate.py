"""The command that estimates for a card that is not here."""

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu", "rtx4091"], "gpu: wanted one of 7 known names, nearest: rtx4090"),
        (["--model", "sd3"], "model: wanted one of 3 known names"),
        (["--memory", "8 apples"], "memory: wanted"),
    ],
)
def test_bad_input_is_named(options, message):
    done = CliRunner().invoke(app, ["bench", "estimate", *options])
    assert done.exit_code == 2 and message in done.output
