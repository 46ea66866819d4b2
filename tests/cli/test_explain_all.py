"""``explain --all``: every class is asked for, whatever its label is as text."""

from pathlib import Path

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
