"""Commands that list something print one JSON object, and nothing else, with ``--json``."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from diffexplain_fast.cli.json_line import audit_record, only_json, print_json
from diffexplain_fast.cli.main import app
from diffexplain_fast.environment import versions
from diffexplain_fast.ops.doctor import implementations, kernel_status
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import AuditRow
from tests.auditing import drawn_audit


def printed(*arguments: str) -> Any:
    """Return the value of what a command has printed to stdout; warnings go to stderr."""
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_numbers_that_json_has_not_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"row": {"low": -math.inf, "p": np.float32("nan")}, "points": (1, 0.5, np.inf), "none": None})
    assert capsys.readouterr().out == '{"row": {"low": null, "p": null}, "points": [1, 0.5, null], "none": null}\n'


def test_a_difference_of_audits_with_its_decisions(tmp_path: Path) -> None:
    drawn_audit(3.0).save(tmp_path / "a")
    drawn_audit(0.0).save(tmp_path / "b")
    words = ["audit", "diff", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, [*words, "--fail-on", "findings>0", "--fail-on", "findings>40"])
    assert result.exit_code == 3 and result.stdout.count("\n") == 1
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    saved = Audit.load(found["folder"])
    assert found["findings"][0]["concept"] == "background:desert" and len(found["rows"]) == len(saved.rows)
    assert [set(row) for row in found["rows"]] == [set(AuditRow.names())] * len(saved.rows)
    told = [(one["measure"], one["sign"], one["limit"], one["failed"]) for one in found["decisions"]]
    assert told == [("findings", ">", 0.0, True), ("findings", ">", 40.0, False)]
    assert Path(found["report"]).is_file() and found["verdicts"] == {}


def test_verdicts_of_an_audit_have_their_kind_and_sentence(tmp_path: Path) -> None:
    record = audit_record(drawn_audit(), [], tmp_path, tmp_path / "report.html")
    assert record["verdicts"]["fish"]["kind"] == "spurious" and record["verdicts"]["fish"]["sentence"] == "A shortcut."


def test_doctor_says_all_that_it_says_in_lines() -> None:
    found = printed("doctor")
    assert found["versions"] == versions() and found["ops"] == implementations()
    assert found["kernels"] == kernel_status() and found["threads"] >= 1
    assert {"cpu", "cuda", "device", "tinyworld", "backend"} <= found.keys()


def test_classes_and_layers_of_a_classifier(models: tuple[str, str]) -> None:
    found = printed("classes", models[0])
    assert found["classes"][0] == {"index": 0, "label": "boat", "target": "boat"} and len(found["classes"]) == 4
    layers = printed("layers", models[0])["layers"]
    assert {"name": "resnet.encoder.stages.0", "kind": "ResNetStage"} in layers
    assert all(layer["name"] for layer in layers)


_PRINTS = """
import sys, torch, diffexplain_fast as dx
print("read")
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = torch.nn.AdaptiveAvgPool2d(1)
    def forward(self, pixels):
        print("run")
        sys.stdout.write("run too")
        return self.mean(pixels).flatten(1)
def make():
    print("made")
    return dx.Classifier(Net(), labels=["boat", "fish", "tree"], output="softmax")
def marked(picture):
    print("marked")
    return 1 - picture
"""


@pytest.fixture
def prints(tmp_path: Path) -> str:
    """Return the name of a classifier whose file, function and model print."""
    file = tmp_path / "prints.py"
    file.write_text(_PRINTS)
    return f"{file}:make"


@pytest.mark.parametrize("command", ["classes", "layers", "explain", "audit"])
def test_what_the_users_code_prints_goes_to_stderr(
    command: str, prints: str, models: tuple[str, str], tmp_path: Path
) -> None:
    words = [command, prints]
    if command in ("explain", "audit"):
        words += ["--pipeline", models[1], "--out", str(tmp_path / "out")]
    if command == "explain":
        words += ["boat", "--iterations", "1", "--n-tokens", "1", "--steps", "1", "--guidance", "1", "--images", "1"]
    if command == "audit":
        images = tmp_path / "images"
        images.mkdir()
        for number in range(8):
            Image.new("RGB", (16, 16), (30 * number, 255 - 30 * number, 90)).save(images / f"{number}.png")
        change = prints.replace(":make", ":marked")
        words += ["--images", str(images), "--pictures", "0", "--intervention", change]
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.count("\n") == 1 and json.loads(result.stdout)
    assert "read\nmade\n" in result.stderr
    assert command in ("classes", "layers") or "run\nrun too" in result.stderr
    assert command != "audit" or "marked\n" in result.stderr


def test_without_json_the_users_code_prints_as_it_does(prints: str) -> None:
    result = CliRunner().invoke(app, ["classes", prints], catch_exceptions=False)
    assert result.stdout.startswith("read\nmade\n")


def test_a_record_is_printed_to_the_stdout_of_before_also_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), only_json():
        print("told")
        print_json({"a": 1})
        raise ValueError("inside")
    print("after")
    found = capsys.readouterr()
    assert found.out == '{"a": 1}\nafter\n' and found.err == "told\n"


def test_classes_that_share_a_label_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "import torch, diffexplain_fast as dx\n"
        "def make():\n"
        "    return dx.Classifier(torch.nn.Flatten(), labels=['crane', 'boat', 'crane'], output='softmax')\n"
    )
    rows = printed("classes", f"{file}:make")["classes"]
    assert [row["label"] for row in rows] == ["crane", "boat", "crane"]
    assert [row["target"] for row in rows] == ["crane (0)", "boat", "crane (2)"]
