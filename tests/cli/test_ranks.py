"""Several processes of one command, started by torchrun: they share targets and pictures, and one of them reports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import diffexplain_fast as dx
from diffexplain_fast.cli import audit, ranks
from diffexplain_fast.cli.main import app
from diffexplain_fast.environment import Ranks
from diffexplain_fast.environment import ranks as found_ranks
from tests.docs.reading import ROOT
from tests.report.pages import audit_example

_SCRIPT = """
import sys
from pathlib import Path

import torch.distributed

from diffexplain_fast.cli import explain, main
from diffexplain_fast.environment import ranks

torch.distributed.init_process_group("gloo")
log, plain = Path(sys.argv.pop(1)), explain._explained


def logged(explainer, text, folder, **settings):
    (log / f"{ranks().rank}-{text}").touch()
    torch.distributed.barrier() if not any(log.glob(f"{ranks().rank}-*-seen")) else None
    (log / f"{ranks().rank}-{text}-seen").touch()
    return plain(explainer, text, folder, **settings)


explain._explained = logged
sys.exit(main.app(standalone_mode=False))
"""
"""The command line among ranks that have a process group of their own. Each waits at its first target for the other, so
that a fast rank cannot take all of them before a slow one has loaded its models."""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Ranks()),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Ranks(1, 4, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8"}, Ranks(5, 8, 0)),
        ({"RANK": "2"}, Ranks()),
        ({"RANK": "4", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, Ranks()),
        ({"RANK": "one", "WORLD_SIZE": "4"}, Ranks()),
    ],
)
def test_ranks_are_what_the_launchers_variables_say(
    variables: dict[str, str], expected: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert found_ranks() == expected
    assert ranks.is_first() is (expected.rank == 0) and ranks.are_several() is (expected.processes > 1)


class Results:
    """A command that writes the target into a file of its folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.done = out, list[str]()

    def run(self, text: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result").write_text(text)
        self.done.append(f"{text} {folder.name}")

    def is_there(self, text: str, folder: Path) -> bool:
        return (folder / "result").is_file() and (folder / "result").read_text() == text

    def __call__(self, targets: dict[str, str], seed: int = 0) -> dict[str, str]:
        """Return what the folder of each target holds."""
        places = {text: self.out / name for text, name in targets.items()}
        found = ranks.divide(self.run, self.is_there, places, self.out, {"seed": seed})
        return {text: (folder / "result").read_text() for text, folder in found.items()}


def test_a_target_that_is_done_is_not_run_again_and_other_settings_are_refused(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for _ in range(2):
        results({text: text for text in ("boat", "a:3 + b")})
    assert results.done == ["boat boat", "a:3 + b a:3 + b"]
    with pytest.raises(ValueError, match="units of the same seed"):
        results({}, seed=1)


def test_a_target_keeps_its_folder_and_gets_no_other_ones(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for lists in ({"f": "f", "-f": "f~2"}, {"-f": "f", "b": "b"}, {"/f": "f", "f": "f~2"}, {"b": "."}, {"c": "."}):
        assert results(lists) == {text: text for text in lists}
    assert [one.partition(" ")[0] for one in results.done] == ["f", "-f", "b", "/f", "c"], "each target once"
    assert results({"d": "."}) == {"d": "d"} and results({"c": "."}) == {"c": "c"}


@pytest.mark.parametrize("damage", ["removed", "other", "unreadable"])
def test_a_target_whose_result_is_not_there_is_run_again(damage: str, tmp_path: Path) -> None:
    results = Results(tmp_path)
    results({"boat": "boat", "fish": "fish"})
    if damage == "removed":
        (tmp_path / "boat" / "result").unlink()
    elif damage == "other":
        (tmp_path / "boat" / "result").write_text("house")
    else:
        for unit in (tmp_path / "ranks").glob("*.done"):
            unit.write_text('{"target": "boat", "folder": "/elsewhere"}')
    assert results({"boat": "." if damage == "unreadable" else "boat"}) == {"boat": "boat"}
    assert results.done[2].startswith("boat")


def test_one_of_several_targets_is_shown_alone(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_RANK", 0)):
        monkeypatch.setenv(name, str(value))
    command = ["explain", models[0], "--pipeline", models[1], "--out", str(tmp_path / "out"), "--json"]
    command += ["--iterations", "1", "--steps", "1", "--images", "1", "--batch", "1", "--candidates", "fish", "--"]
    shown: dict[str, list[str]] = {}
    for targets in (["logit:fish", "-logit:fish"], ["-logit:fish"]):
        result = CliRunner().invoke(app, [*command, *targets])
        assert result.exit_code == 0, result.output
        records = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        shown[" ".join(targets)] = [record["target"] for record in records]
    names = ["ClassLogit(fish)", "-ClassLogit(fish)"]
    assert shown == {"logit:fish -logit:fish": names, "-logit:fish": names[1:]}


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_ranks_only_the_first_writes_an_audit(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", 2), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))
    audit._finish(audit_example(), tmp_path / "out", [], as_json=False)
    assert (tmp_path / "out" / "report.html").exists() is (rank == 0)
    said = capsys.readouterr()
    assert bool(said.out) is (rank == 0) and ("rank 1 of 2" in said.err) is (rank == 1)


LAUNCHERS = {
    "torch.distributed.run": "--standalone --nproc-per-node 2",
    "accelerate.commands.launch": "--multi_gpu --num_processes 2 --num_machines 1"
    " --mixed_precision no --dynamo_backend no",
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_share_the_targets_and_one_reports(
    launcher: str, models: tuple[str, str], tmp_path: Path
) -> None:
    pytest.importorskip(launcher.partition(".")[0])
    classifier, pipeline = models
    script, log = tmp_path / "run.py", tmp_path / "log"
    script.write_text(_SCRIPT)
    log.mkdir()
    command = [sys.executable, "-m", launcher, *LAUNCHERS[launcher].split(), str(script)]
    command += [str(log), "explain", classifier, "boat", "fish", "house", "--pipeline", pipeline, "--json"]
    command += ["--out", str(tmp_path / "out"), "--iterations", "1", "--images", "2", "--steps", "1"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=500)
    assert done.returncode == 0, done.stderr
    shared = sorted(path.name.partition("-") for path in log.iterdir() if not path.name.endswith("-seen"))
    assert sorted(text for _, _, text in shared) == ["boat", "fish", "house"]  # each once
    assert {rank for rank, _, _ in shared} == {"0", "1"}
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [record["label"] for record in records] == ["boat", "fish", "house"]  # one report, in the given order
    for record in records:
        assert dx.Explanation.load(record["folder"]).label == record["label"]
    assert len(list((tmp_path / "out").glob("report.html"))) == 1
