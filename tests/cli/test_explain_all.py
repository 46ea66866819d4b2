"""Several targets: ``--all`` asks for every class, whatever its label is, and a wrong one is refused first."""

from pathlib import Path

import pytest

from diffexplain_fast.cli.explain import _targets
from diffexplain_fast.results.explanation import Explanation
from tests.cli.running import run

QUICK = ["--iterations", "2", "--n-tokens", "1", "--steps", "1", "--guidance", "1"]


def test_all_asks_for_every_class_whatever_its_label(models: tuple[str, str], tmp_path: Path) -> None:
    labels = ["a (1)", "a", "", "logit:a"]
    assert _targets(None, True, labels) == {"a (1)": 0, "a": 1, "": 2, "logit:a": 3}
    shared = ["a (1)", "a", "a"]
    assert list(_targets(None, True, shared).values()) == [0, 1, 2]
    assert _targets(["", "a"], False, labels) == {"": None, "a": None}
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nimport diffexplain_fast as dx\n\n"
        "def make():\n    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
        "    return dx.Classifier(net, labels=['1', '', 'logit:1'], output='softmax')\n"
    )
    out = tmp_path / "out"
    code, text = run("explain", f"{file}:make", "--all", "--pipeline", models[1], "--out", out, *QUICK)
    assert code == 0, text
    found = [Explanation.load(out / folder / "explanation").label for folder in ("1", "target", "logit-1")]
    assert found == ["1", "", "logit:1"]


@pytest.mark.parametrize(
    ("wrong", "message", "several"),
    [
        ("boot", "nearest: boat", False),
        ("neuron:resnet.encoder:0,99,99", "99", False),
        ("logit:boat - 0.5*logit:fisch", "nearest: fish", True),
    ],
)
def test_a_wrong_target_is_refused_before_any_is_explained(
    wrong: str, message: str, several: bool, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if several:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("diffexplain_fast.cli.explain._explained", lambda *_, **__: pytest.fail("explained"))
    code, text = run("explain", models[0], "boat", wrong, "--pipeline", models[1], "--out", tmp_path, *QUICK)
    assert code == 2 and message in text, text
