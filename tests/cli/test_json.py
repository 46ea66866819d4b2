"""Commands that list something print one JSON object, and nothing else, with ``--json``."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from diffexplain_fast.environment import versions
from diffexplain_fast.ops.doctor import implementations, kernel_status


def printed(*arguments: str) -> Any:
    """Return the value of what a command has printed to stdout; warnings go to stderr."""
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.count("\n") == 1
    return json.loads(result.stdout)


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
