"""``diffexplain-fast audit`` on tiny real models: what it prints, writes and refuses."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from diffexplain_fast.cli.audit import _print, findings_table
from diffexplain_fast.cli.main import app
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.results.audit import Audit
from tests.auditing import drawn_audit, made_up
from tests.cli.running import run
from tests.tiny import LABELS

QUICK = ["--pictures", "24", "--steps", "1", "--guidance", "1"]


def test_audit_writes_everything(models: tuple[str, str], tmp_path: Path) -> None:
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("background: desert, snow\ncolour: red, blue\n")
    folders = ["--out", tmp_path / "out", "--pool", tmp_path / "pool", "--concepts", concepts]
    code, text = run("audit", models[0], "fish", "--pipeline", models[1], *folders, *QUICK)
    assert code == 0 and "fish: " in text and "audit.json" in text
    assert sorted(os.listdir(tmp_path / "out")) == ["audit", "report.html"]
    audit = Audit.load(tmp_path / "out" / "audit")
    assert {row.target for row in audit.rows} == {"fish"} and len(audit.rows) == 4
    words = ["audit", models[0], "1", "--pipeline", models[1], *folders, *QUICK, "--json"]
    again = CliRunner().invoke(app, [*map(str, words)])
    assert again.exit_code == 0 and again.stdout.count("\n") == 1, again.output
    told = json.loads(again.stdout)
    assert told["verdicts"]["fish"]["sentence"] in text and told["decisions"] == [] and len(told["rows"]) == 4
    assert Audit.load(tmp_path / "out" / "audit").settings["pictures_drawn"] == 0


def test_a_distribution_of_the_users_own_is_read_from_a_file(models: tuple[str, str], tmp_path: Path) -> None:
    concepts, weights = tmp_path / "concepts.txt", tmp_path / "weights.json"
    concepts.write_text("background: desert, snow\ncolour: red, blue\n")
    weights.write_text('{"background": {"desert": 0.7}}')
    options = ["--out", tmp_path / "out", "--pool", tmp_path / "pool", "--concepts", concepts, "--weights", weights]
    code, text = run("audit", models[0], "fish", "--pipeline", models[1], *options, *QUICK, "--pictures", "96")
    audit = Audit.load(tmp_path / "out" / "audit")
    assert code == 0 and f"worth {audit.settings['effective_pictures']:.0f} equal pictures" in text
    weights.write_text('{"background": {"dessert": 0.7}}')
    code, text = run("audit", models[0], "fish", "--pipeline", models[1], *options, *QUICK)
    assert code == 2 and "nearest: desert" in text
    for wrong in ("{", "null", "[]"):
        weights.write_text(wrong)
        code, text = run("audit", models[0], "fish", "--pipeline", models[1], *options, *QUICK)
        assert code == 2 and "weights" in text


def test_numbers_of_16_bits_backend_and_memory_are_taken(models: tuple[str, str], tmp_path: Path) -> None:
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("background: desert, snow\n")
    given = ["--pipeline", models[1], "--concepts", concepts, "--pool", tmp_path / "pool", *QUICK]
    seen = []
    for dtype in ("float32", "bfloat16"):
        more = ["--dtype", dtype, "--backend", "fast", "--memory", "8GiB", "--out", tmp_path / "out"]
        code, text = run("audit", models[0], "fish", *given, *more)
        assert code == 0, text
        seen.append(Audit.load(tmp_path / "out" / "audit"))
        given[5] = tmp_path / dtype
    assert seen[0].rows[0].effect != seen[1].rows[0].effect and seen[1].settings["pictures_drawn"] > 0
    for option, message in (
        ("--dtype", "dtype: wanted"),
        ("--backend", "backend: wanted"),
        ("--memory", "memory: wanted"),
    ):
        code, text = run("audit", models[0], "fish", *given, option, "x", "--out", tmp_path / "new")
        assert code == 2 and message in text and not (tmp_path / "new").exists(), text


def test_bad_input_is_one_line_and_code_2(models: tuple[str, str], tmp_path: Path) -> None:
    code, text = run(
        "audit", models[0], "--pipeline", models[1], "--out", tmp_path / "out", "--pool", tmp_path / "pool", *QUICK
    )
    assert code == 2 and "concepts: wanted groups of values or words" in text and "Traceback" not in text
    for option, wanted in (("--concepts", "a file of concepts"), ("--weights", "a JSON file")):
        for path in (tmp_path / "none.txt", tmp_path):
            folders = ["--out", tmp_path / "out", "--pool", tmp_path / "pool", option, path]
            code, text = run("audit", models[0], "--pipeline", models[1], *folders, *QUICK)
            assert code == 2 and f"{option}: wanted {wanted}, got {path}: " in text


def test_the_table_holds_the_findings_only() -> None:
    trial = made_up({("fish", "background:desert"): 5.0})
    audit = Audit("tiny", rows_of(trial), [], {}, {})
    first, *lines = findings_table(audit).splitlines()
    assert first.split()[:3] == ["target", "concept", "effect"]
    assert len(lines) == len(audit.findings) and lines[0].split()[:2] == ["fish", "background:desert"]
    assert findings_table(Audit("tiny", [], [], {}, {})) == "No concept has an effect above the minimal one."


def test_an_effect_that_is_not_decided_is_not_called_none(capsys: pytest.CaptureFixture[str]) -> None:
    roles = ("undecided", "undecided", "small", "not drawable", "none")
    first, *_ = rows_of(made_up({("fish", "background:desert"): 5.0}))
    rows = [replace(first, role=role, finding=False) for role in roles]
    _print(Audit("tiny", rows, [], {}, {}))
    wanted = "No finding; 2 of 5 effects are undecided: more pictures are needed; 1 of 5 effects is small: "
    assert capsys.readouterr().out.startswith(wanted)
    shown = [replace(first, role="more", finding=True), *rows[:2]]
    _print(Audit("tiny", shown, [], {}, {"difference": [{}, {}]}))
    assert capsys.readouterr().out.splitlines()[-1] == (
        "1 finding; 2 of 3 effects are undecided: more pictures are needed."
    )


def test_conditions_decide_the_exit_code(models: tuple[str, str], tmp_path: Path) -> None:
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("background: desert, snow\ncolour: red, blue\n")
    folders = ["--out", tmp_path / "out", "--pool", tmp_path / "pool", "--concepts", concepts]
    code, text = run(
        "audit",
        models[0],
        "--pipeline",
        models[1],
        *folders,
        *QUICK,
        "--fail-on",
        "spurious>0.5",
        "--fail-on",
        "findings<1",
    )
    assert code == 3 and "passed: spurious is 0" in text and "FAILED: findings is 0" in text
    settings = Audit.load(tmp_path / "out" / "audit").settings
    assert [one["failed"] for one in settings["decisions"]] == [False, True] and settings["control"] == "family"
    code, text = run("audit", models[0], "--pipeline", models[1], *folders, *QUICK, "--fail-on", "spurios>0.5")
    assert code == 2 and "nearest: spurious" in text

    code, text = run("audit", "diff", tmp_path / "out", tmp_path / "out" / "audit", "--out", tmp_path / "diff")
    rows = Audit.load(tmp_path / "diff" / "audit").rows
    assert (
        code == 0 and f"No finding; {len(rows)} of {len(rows)} effects are undecided: more pictures are needed." in text
    )
    assert all(row.effect == 0 for row in Audit.load(tmp_path / "diff" / "audit").rows)
    assert run("audit", "diff", tmp_path / "out", "--out", tmp_path / "two")[0] == 2
    for measure in ("worst_group<0.5", "unexplained>0"):
        two = (tmp_path / "out", tmp_path / "out", "--out", tmp_path / "two", "--fail-on", measure)
        code, text = run("audit", "diff", *two)
        assert code == 2 and "--fail-on: wanted false_answers, spurious, findings for a difference" in text


def test_own_pictures_are_a_folder(models: tuple[str, str], tmp_path: Path) -> None:
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("background: desert, snow\n")
    for i in range(4):
        (tmp_path / "own" / LABELS[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (60 * i, 0, 0)).save(tmp_path / "own" / LABELS[i % 2] / f"{i}.png")
    options = ["--out", tmp_path / "out", "--pool", tmp_path / "pool", "--concepts", concepts]
    code, _ = run("audit", models[0], "--pipeline", models[1], *options, *QUICK, "--images", tmp_path / "own")
    found = Audit.load(tmp_path / "out" / "audit").photographs
    assert code == 0 and found is not None and found.pictures == 4 and found.groups == ["boat"] * 2 + ["fish"] * 2


OWN_FILE = """
def mark(picture):
    picture[:, :4, :4] = 1
    return picture

def nothing(picture):
    return None
"""


def test_interventions_are_functions_in_a_file(models: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for i in range(4):
        Image.new("RGB", (20, 16), (60 * i, 0, 0)).save(tmp_path / "own" / f"{i}.png")
    (tmp_path / "marks.py").write_text(OWN_FILE)
    given = ["--out", tmp_path / "out", "--pictures", "0", "--images", tmp_path / "own"]

    def intervened(*names: str) -> tuple[int, str]:
        functions = [part for name in names for part in ("--intervention", f"{tmp_path / 'marks.py'}:{name}")]
        return run("audit", models[0], "--pipeline", models[1], *given, *functions)

    assert intervened("mark")[0] == 0
    concepts = {row.concept for row in Audit.load(tmp_path / "out" / "audit").rows}
    assert concepts == {"intervention:mark", "placebo:mark, mirrored", "placebo:mark, blank"}
    for names, message in (
        (["nothing"], "interventions, nothing: wanted a finite picture"),
        (["absent"], "--intervention: wanted a function 'absent' in"),
        (["mark", "mark"], "--intervention: wanted functions of different names, got mark twice"),
    ):
        code, text = intervened(*names)
        assert code == 2 and message in text
    code, text = run("audit", models[0], "--pipeline", models[1], *given, "--intervention", "marks")
    assert code == 2 and "--intervention: wanted a file and a function in it" in text


def test_a_condition_that_needs_own_pictures_is_refused_first(models: tuple[str, str], tmp_path: Path) -> None:
    options = ["--out", tmp_path / "out", "--pool", tmp_path / "pool", "--fail-on", "unexplained>0"]
    code, text = run("audit", models[0], "--pipeline", models[1], *options, *QUICK)
    assert code == 2 and "--fail-on: wanted own pictures (--images)" in text and not (tmp_path / "pool").exists()


def test_workers_of_ray_draw_the_same_pictures(models: tuple[str, str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("background: desert, snow\n")
    given = ["audit", models[0], "fish", "--pipeline", models[1], "--concepts", concepts, *QUICK]
    rows = []
    for name, more in (("here", []), ("there", ["--ray", "auto"])):
        code, text = run(*given, "--out", tmp_path / name, "--pool", tmp_path / f"{name}-pool", *more)
        assert code == 0, text
        rows.append(repr(Audit.load(tmp_path / name / "audit").rows))
    assert rows[0] == rows[1]


def test_workers_in_another_folder_get_the_same_pipeline(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Callable[[str], Any]] = []

    def workers(address: str, make: Callable[[str], Any]) -> None:
        sent.append(make)
        raise ValueError("sent")

    monkeypatch.setattr("diffexplain_fast.cli.models.RayWorkers", workers)
    monkeypatch.setenv("HOME", str(Path(models[1]).parent))
    (tmp_path / "tinyworld").mkdir()  # the name of a pipeline that ships is no folder
    for name in (Path(models[1]).name, models[1], f"~/{Path(models[1]).name}", "tinyworld"):
        monkeypatch.chdir(tmp_path if name == "tinyworld" else Path(models[1]).parent)
        assert run("audit", models[0], "fish", "--pipeline", name, "--ray", "auto") == (2, "diffexplain-fast: sent\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [make("cpu").name for make in sent] == 3 * [Path(models[1]).name] + ["tinyworld"]


def test_a_folder_of_pictures_that_is_missing_is_named_before_a_model_is_loaded(tmp_path: Path) -> None:
    options = ["--out", tmp_path / "out", "--images", tmp_path / "absent"]
    code, text = run("audit", "timm/there_is_none", *options)
    assert code == 2 and "--images: wanted a folder of pictures" in text and "absent" in text


def test_a_difference_never_replaces_what_it_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("audit/audit", "other"):
        drawn_audit().save(name)
    Path("audit/report.html").write_text("of the first")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for given, out in (("audit", "audit"), ("audit/audit", "audit"), ("other", "other"), ("other", "audit/../other")):
        for order in ((given, "other"), ("other", given)):
            code, text = run("audit", "diff", *order, "--out", out)
            assert code == 2 and "--out: wanted " in text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    code, text = run("audit", "diff", "audit", "other")
    assert code == 0 and f"Open {Path('audit_difference') / 'report.html'}" in text, text
    assert "difference" in Audit.load("audit_difference/audit").settings
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_misspelt_comparison_is_no_name_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two/audit"):
        drawn_audit().save(name)
    for word, told in (
        *((word, "one two") for word in ("dif", "difff", "Diff", "compare", "owner/name")),
        ("dif", "FIRST SECOND"),
    ):
        folders = told.split() if told == "one two" else []
        code, text = run("audit", word, *folders)
        assert code == 2 and f"(did you mean diffexplain-fast audit diff {told}?), got '{word}'" in text
    assert "audit diff wrong names?" in run("audit", "dif", "wrong", "names")[1]
    monkeypatch.setattr("diffexplain_fast.cli.audit.Models", lambda *given: 1 / 0)
    for name, targets in (("compare", ["fish"]), ("owner/diff", ["fish", "boat"]), ("one", ["fish"])):
        with pytest.raises(ZeroDivisionError):
            run("audit", name, *targets)
    code, text = run("audit", "--out", "three", "diff", "one", "two")
    assert code == 0 and Path("three/audit").is_dir(), text


def test_own_pictures_in_the_audit_that_would_be_replaced_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn_audit().save("audit/audit")
    Path("audit/audit/images").mkdir(exist_ok=True)
    code, text = run("audit", "tinyworld/background", "--images", "audit/audit/images")
    assert code == 2 and "--out: wanted a folder in which nothing of --images is replaced" in text
