"""``diffexplain-fast attribute`` on tiny real models: what it writes, and exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import diffexplain_fast as dx
from diffexplain_fast.cli.main import app
from tests.auditing import drawn_audit
from tests.cli.running import run
from tests.tiny import tiny_sd


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Return the folder of a tiny pipeline."""
    tiny_sd().save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """Return a picture and a taxonomy."""
    Image.effect_noise((20, 12), 80).save(tmp_path / "picture.png")
    (tmp_path / "t.json").write_text(json.dumps({"domain": "", "categories": {"ground": ["snow", "desert"]}}))
    return tmp_path / "picture.png", tmp_path / "t.json"


def said(text: str) -> list[str]:
    """Return the first two lines of a result, without the bars before them."""
    return [line for line in text.splitlines() if line.strip() and "|" not in line][:2]


def test_it_writes_everything(pipeline: Path, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    (picture, taxonomy), out = inputs, tmp_path / "out"
    arguments = ("--pipeline", pipeline, "--taxonomy", taxonomy, "--caption", "a boat on snow", "--out", out)
    code, text = run("attribute", "tinyworld/clean", "boat", picture, *arguments, "--device", "cpu")
    assert code == 0 and "ground:desert" in text and "denoiser rows" in text
    result = dx.Attribution.load(out / "attribution")
    assert [row.concept for row in result.rows] == ["ground:desert"] and result.label == "boat"
    assert "ground:desert" in (out / "report.html").read_text()
    code, again = run("attribute", "tinyworld/clean", "boat", picture, *arguments, "--device", "cpu")
    assert code == 0 and said(again) == said(text)  # from what is done already
    words = ("attribute", "tinyworld/clean", "boat", picture, *arguments, "--device", "cpu", "--json")
    printed = CliRunner().invoke(app, [*map(str, words)])
    assert printed.exit_code == 0 and printed.stdout.count("\n") == 1, printed.output
    told = json.loads(printed.stdout, parse_constant=lambda name: pytest.fail(name))
    assert told["label"] == "boat" and told["denoiser_rows"] == result.denoiser_rows and told["not_compared"] == ""
    assert [(one["concept"], one["effect"]) for one in told["effects"]] == [("ground:desert", result.effects[0].effect)]
    assert dx.Attribution.load(told["folder"]).target == told["target"] and Path(told["report"]).is_file()
    code, text = run("attribute", "tinyworld/clean", "fish", picture, *arguments, "--device", "cpu")
    assert code == 2 and "checkpoint" in text and "same target" in text


@pytest.mark.filterwarnings("ignore:taxonomy")
def test_what_a_saved_audit_found_is_edited_and_compared(
    pipeline: Path, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    (picture, taxonomy), audit, out = inputs, tmp_path / "of the command", tmp_path / "out"
    made = drawn_audit(classifier="tinyworld/clean")
    rows = [replace(row, finding=row.concept == "background:desert") for row in made.rows]
    replace(made, rows=rows).save(audit / "audit")  # as "audit --out" writes it
    arguments = ("--pipeline", pipeline, "--caption", "a fish on snow", "--out", out, "--audit", audit)
    code, _ = run("attribute", "tinyworld/clean", "fish", picture, *arguments, "--device", "cpu")
    result = dx.Attribution.load(out / "attribution")
    assert code == 0 and {concept.category for concept in result.taxonomy.concepts} == {"background"}
    assert not result.not_compared
    replace(made, rows=rows, classifier="another").save(tmp_path / "another")
    again = (*arguments[:-1], tmp_path / "another", "--device", "cpu")
    code, text = run("attribute", "tinyworld/clean", "fish", picture, *again)
    assert code == 0 and "is one of another, not an audit of tinyworld/clean" in text
    for given, what in ((audit / "audit" / "audit.json", "a file"), (tmp_path, "a folder without one")):
        code, text = run("attribute", "tinyworld/clean", "fish", picture, *arguments[:-1], given)
        assert (
            code == 2
            and f'--audit: wanted the folder of a saved audit, or one that "audit --out" wrote, got {given}, {what}'
            in text
        )
    more = (*arguments, "--taxonomy", taxonomy, "--device", "cpu")
    code, text = run("attribute", "tinyworld/clean", "fish", picture, *more)
    assert code == 2 and "--audit: wanted no --taxonomy beside it" in text


def test_scheduler_backend_and_numbers_of_16_bits_are_taken(
    pipeline: Path, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    (picture, taxonomy), out = inputs, tmp_path / "out"
    config = json.loads((pipeline / "scheduler" / "scheduler_config.json").read_text())
    published = {**config, "_class_name": "PNDMScheduler", "skip_prk_steps": True}  # as of Stable Diffusion 1.x
    (pipeline / "scheduler" / "scheduler_config.json").write_text(json.dumps(published))
    index = json.loads((pipeline / "model_index.json").read_text()) | {"scheduler": ["diffusers", "PNDMScheduler"]}
    (pipeline / "model_index.json").write_text(json.dumps(index))
    given = ["--pipeline", pipeline, "--taxonomy", taxonomy, "--caption", "a boat on snow", "--device", "cpu"]
    words = ["attribute", "tinyworld/clean", "boat", picture, *given, "--out", out]
    code, text = run(*words)
    assert code == 2 and "PNDMScheduler" in text
    code, text = run(*words, "--scheduler", "ddim", "--dtype", "bfloat16", "--backend", "reference")
    assert code == 0, text
    settings = dx.Attribution.load(out / "attribution").settings
    assert settings["denoiser"].startswith("its own modules")
    code, text = run(*words, "--scheduler", "ddim")  # float32: other numbers are another attribution
    assert code == 2 and "checkpoint" in text
    for option, wanted in (("--dtype", "dtype"), ("--scheduler", "scheduler"), ("--backend", "backend")):
        code, text = run(*words, "--scheduler", "ddim", option, "none", "--out", tmp_path / "new")
        assert code == 2 and f"{wanted}: wanted" in text, text


def test_bad_input_is_one_line_and_exit_code_2(pipeline: Path, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    (picture, taxonomy), cut, short = inputs, tmp_path / "cut.png", tmp_path / "short.ppm"
    arguments = ("--pipeline", pipeline, "--device", "cpu", "--out", tmp_path / "out")
    cut.write_bytes(picture.read_bytes()[:-40])
    short.write_bytes(b"P6 64 64 2")
    for more, message in (
        ((taxonomy,), "images: wanted files of pictures"),
        ((picture,), "taxonomy: wanted a Taxonomy, because none ships"),
        ((picture, "--taxonomy", taxonomy, "--budget", "soon"), "budget: wanted rows of the denoiser as 2000"),
        ((tmp_path / "none.png",), "images: wanted files of pictures"),
        ((picture, cut), f"images: wanted files of pictures, got {cut}: "),
        ((picture, short), f"images: wanted files of pictures, got {short}: "),
        ((tmp_path,), "images: wanted files of pictures"),
        ((picture, "--taxonomy", tmp_path), "--taxonomy: wanted a JSON file"),
        ((picture, "--taxonomy", tmp_path / "none.json"), "--taxonomy: wanted a JSON file"),
    ):
        code, text = run("attribute", "tinyworld/clean", "boat", *more, *arguments)
        assert code == 2 and message in text, text
