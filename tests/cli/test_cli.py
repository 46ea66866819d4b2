"""The command line on tiny real models: output, exit codes, resuming."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from diffusers import PNDMScheduler
from typer.testing import CliRunner

from diffexplain_fast.cli.demo import CASES, MADE, known
from diffexplain_fast.cli.explain import _folder_names
from diffexplain_fast.cli.main import _exits, app
from diffexplain_fast.models import loading
from diffexplain_fast.ops.doctor import implementations, kernel_status
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.tinyworld.store import classifier_names
from tests.cli.running import run
from tests.tiny import LABELS, tiny_sd

QUICK = ["--iterations", "2", "--n-tokens", "1", "--steps", "1", "--guidance", "1"]


@pytest.fixture
def pndm(tmp_path: Path) -> Path:
    """Return the folder of a pipeline with the scheduler with which Stable Diffusion 1.x is published."""
    pipe = tiny_sd()
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    pipe.save_pretrained(tmp_path / "pndm")
    return tmp_path / "pndm"


def test_help_names_every_command_and_exit_code() -> None:
    code, text = run("--help")
    assert code == 0 and all(
        word in text for word in ("demo", "explain", "audit", "profile", "doctor", "130 interrupted")
    )
    for command in ("demo", "explain", "audit", "profile", "doctor"):
        code, text = run(command, "--help")
        assert code == 0 and "Usage" in text and "TODO" not in text


def test_doctor_names_versions_devices_and_every_op() -> None:
    code, text = run("doctor")
    assert code == 0
    assert all(word in text for word in ("torch", "diffusers", "threads", "backend", "tinyworld"))
    assert all(f"\n{name} " in text for name in (*kernel_status(), *(row["op"] for row in implementations())))


def test_explain_writes_everything(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    code, text = run("explain", classifier, "boat", "--pipeline", pipeline, "--out", tmp_path / "out", *QUICK)
    assert code == 0 and "ClassProbability(boat)" in text and "report.html" in text
    assert sorted(os.listdir(tmp_path / "out")) == ["checkpoint", "explanation", "report.html"]
    explanation = Explanation.load(tmp_path / "out" / "explanation")
    assert explanation.label == "boat" and explanation.prompt_embeds.shape[0] == 1


@pytest.mark.slow
def test_explain_by_number_explains_the_same_class(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    code, text = run("explain", classifier, "1", "--pipeline", pipeline, "--out", tmp_path, *QUICK)
    assert code == 0 and "fish" in text


def test_profile_shows_where_time_and_memory_went(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    short = ["--steps", "1", "--guidance", "1", "--batch", "1", "--device", "cpu", "--dtype", "bfloat16"]
    code, text = run("profile", "--pipeline", pipeline, "--classifier", classifier, "--out", tmp_path / "out", *short)
    words = ("text encoder", "1 step, backward", "convolution", "operator calls", "weights, denoiser", "peak, counted")
    words = (*words, "GFLOP/s in a bfloat16 product", "kept, most at once", "its weights included", "1 step, keep")
    assert code == 0 and all(word in text for word in words)
    assert sorted(os.listdir(tmp_path / "out")) == ["profile.html", "profile.json", "trace.json"]


def test_the_scheduler_option_replaces_a_refused_scheduler(models: tuple[str, str], pndm: Path, tmp_path: Path) -> None:
    command = ["explain", models[0], "boat", "--pipeline", pndm, "--out", tmp_path / "out", *QUICK]
    code, text = run(*command)
    assert code == 2 and "--scheduler), got PNDMScheduler" in text
    code, text = run(*command, "--scheduler", "ddim")
    assert code == 0 and "report.html" in text
    sampler = Explanation.load(tmp_path / "out" / "explanation").settings["sampler"]
    assert "DDIMScheduler" in str(sampler)


def test_profile_takes_the_scheduler_option(models: tuple[str, str], pndm: Path, tmp_path: Path) -> None:
    short = ["--steps", "1", "--guidance", "1", "--batch", "1", "--device", "cpu", "--out", tmp_path / "out"]
    code, text = run("profile", "--pipeline", pndm, "--classifier", models[0], *short, "--scheduler", "lcm")
    assert code == 0, text
    assert "LCMScheduler" in (tmp_path / "out" / "profile.json").read_text()


BAD = {
    "label": (["explain", "{classifier}", "boot", "--pipeline", "{pipeline}"], "nearest: boat"),
    "layer": (["explain", "{classifier}", "resnet.nothing:3", "--pipeline", "{pipeline}"], "resnet.nothing"),
    "steps": (["explain", "{classifier}", "boat", "--pipeline", "{pipeline}", "--steps", "0"], "num_inference_steps"),
    "nan": (["explain", "{classifier}", "boat", "--pipeline", "{pipeline}", "--guidance", "nan"], "guidance_scale"),
    "long": (["explain", "{classifier}", "boat", "--pipeline", "{pipeline}", "--n-tokens", "99"], "tokens"),
    "pipeline": (["explain", "{classifier}", "boat", "--pipeline", "{classifier}"], "pipeline"),
    "classifier": (["explain", "{pipeline}", "boat", "--pipeline", "{pipeline}"], "classifier"),
    "backend": (["explain", "{classifier}", "boat", "--pipeline", "{pipeline}", "--backend", "x"], "backend"),
    "option": (["explain", "{classifier}", "boat", "--lr", "much"], "lr"),
    "batch": (["profile", "--classifier", "{classifier}", "--pipeline", "{pipeline}", "--batch", "0"], "batch"),
    "dtype": (["profile", "--classifier", "{classifier}", "--pipeline", "{pipeline}", "--dtype", "int8"], "dtype"),
    "device": (["explain", "{classifier}", "boat", "--device", "gpu"], "--device: wanted 'cpu'"),
    "profile's device": (["profile", "--device", "cuda:99"], "--device: wanted 'cpu'"),
    "scheduler": (
        ["explain", "{classifier}", "boat", "--pipeline", "{pipeline}", "--scheduler", "ddpm"],
        "scheduler: wanted one of 4 known names, nearest: dpm, ddim",
    ),
    "no folder": (["explain", "nosuch", "boat"], "classifier: wanted an existing folder, or a hub id"),
    "no folder of a pipeline": (
        ["explain", "{classifier}", "boat", "--pipeline", "nosuch"],
        "pipeline: wanted an existing folder, or a hub id",
    ),
    "nothing": (["explain"], "classifier"),
    # Refused before anything is loaded: there is no such classifier.
    "budget": (["explain", "nosuch", "boat", "--budget", "soon"], "budget: wanted rows of the denoiser as 2000 or"),
    "modes": (["explain", "{classifier}", "boat", "--modes", "0"], "--modes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_exits_2(models: tuple[str, str], tmp_path: Path, name: str) -> None:
    template, said = BAD[name]
    arguments = [word.format(classifier=models[0], pipeline=models[1]) for word in template]
    if len(arguments) > 1:
        arguments += ["--out", str(tmp_path / "out")]
    code, text = run(*arguments)
    assert code == 2 and said.lower() in text.lower() and "Traceback" not in text


def test_failures_exit_1(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    blocked = tmp_path / "checkpoint" / "LATEST.json"
    blocked.mkdir(parents=True)
    code, text = run("explain", classifier, "boat", "--pipeline", pipeline, "--out", tmp_path, *QUICK)
    assert code == 1 and str(blocked) in text


@pytest.mark.slow
def test_an_interrupted_run_exits_130_and_keeps_its_checkpoint(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    command = ["explain", classifier, "boat", "--pipeline", pipeline, *QUICK, "--seed", "3"]
    command[command.index("--iterations") + 1] = "5000"
    code = "from diffexplain_fast.cli.main import app; app()"
    whole = [sys.executable, "-c", code, *command, "--out", str(tmp_path)]
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        latest, deadline = tmp_path / "checkpoint" / "LATEST.json", time.monotonic() + 300
        while not (latest.exists() and len(json.loads(latest.read_text())["checkpoints"]) == 2):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and errors.rstrip().endswith("interrupted") and "Traceback" not in errors
    other = [*command, "--out", str(tmp_path)]
    other[other.index("--seed") + 1] = "4"
    exit_code, text = run(*other)
    assert exit_code == 2 and "same configuration" in text


def test_the_demo_says_what_raises_a_class_by_the_measured_truth() -> None:
    truth: dict = {
        "attributes": [{"attribute": "companion:flag", "effect": 6.04}, {"attribute": "companion:sun", "effect": 0.2}],
        "interactions": [{"first": "colour:blue", "second": "background:desert", "effect": 5.3}],
        "unnamed": [{"cue": "pattern:diagonal", "effect": 2.0}, {"cue": "frame:dark", "effect": -3.0}],
    }
    said = known(CASES[0], truth)
    assert "blue and desert together +5.3; diagonal, which no word names, +2.0; flag +6.0." in said
    assert "nothing." in known(CASES[0], {"unnamed": [{"cue": "frame:gold", "effect": 1.5, "interval": [0.2, 2.8]}]})


def test_the_demo_has_one_class_of_each_kind_and_plants_what_no_shipped_classifier_has() -> None:
    assert len({case.kind for case in CASES}) == len({(case.classifier, case.label) for case in CASES}) == 4
    names = {case.classifier for case in CASES}
    assert names - set(classifier_names()) == {MADE} and "clean" in names
    assert SHIPPED["companion"]["tree"] == {"companion": "kite"}


def test_the_demo_says_first_what_it_will_do_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "load_pipeline", stop)
    _, said = run("demo", "--out", tmp_path / "demo")
    lines = said.splitlines()[:9]  # make shows the command before them
    assert "4 classes" in lines[0] and all(case.label in lines[0] for case in CASES)
    assert any("three minutes on two cores" in line for line in lines)
    assert any(str(tmp_path / "demo" / "report.html") in line for line in lines)


def test_several_targets_share_one_report_and_have_folders_of_their_own(
    models: tuple[str, str], tmp_path: Path
) -> None:
    classifier, pipeline = models
    targets = ["boat", "logit:fish - 0.5*logit:boat"]
    code, text = run("explain", classifier, *targets, "--pipeline", pipeline, "--out", tmp_path / "out", *QUICK)
    assert code == 0, text
    assert sorted(os.listdir(tmp_path / "out")) == ["boat", "logit-fish-0.5-logit-boat", "report.html"]
    difference = Explanation.load(tmp_path / "out" / "logit-fish-0.5-logit-boat" / "explanation")
    assert difference.target == "ClassLogit(fish) - 0.5 * ClassLogit(boat)"


def test_json_has_a_line_a_target_and_nothing_else(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    options = ["--all", "--json", "--images", "2", "--batch", "1", "--candidates", "boat,fish", "--out", tmp_path]
    result = CliRunner().invoke(app, ["explain", classifier, "--pipeline", pipeline, *map(str, options), *QUICK])
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["label"] for record in records] == list(LABELS)
    assert all(len(Explanation.load(record["folder"]).images) == 2 for record in records)


def test_modes_are_printed_and_the_budget_limits_the_search(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    command = ["explain", classifier, "logit:boat + 0.5*logit:fish", "--pipeline", pipeline, *QUICK]
    command += ["--candidates", "fish,tree,house", "--modes", "2", "--budget"]
    for rows, count in (("5000 rows", 2), ("1 rows", 1)):
        code, text = run(*command, rows, "--out", tmp_path / rows)
        explanation = Explanation.load(tmp_path / rows / "explanation")
        assert code == 0 and text.count(f"{explanation.target}: ") == count
        assert len(explanation.others) == count - 1 and explanation.settings["options"]["budget"] == rows
        left_out = explanation.settings["found"]["left_out"]
        assert ("further explanations" in left_out) == ("The budget was spent" in text) == (count == 1)
    again = CliRunner().invoke(app, [*map(str, command), "5000 rows", "--out", str(tmp_path / "5000 rows"), "--json"])
    assert len(json.loads(again.stdout)["others"]) == 1


def test_targets_with_equal_plain_names_have_folders_of_their_own() -> None:
    assert _folder_names(["a b", "a/b", "...", "a-b"]) == ["a-b", "a-b~2", "target", "a-b~3"]


def test_a_classifier_of_the_users_own_file(models: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nimport diffexplain_fast as dx\n\n"
        "def make():\n    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2))\n"
        "    return dx.Classifier(net, preprocess=lambda x: x[..., :8, :8], labels=['cat', 'dog'])\n"
        "number = 3\n"
    )
    code, text = run("classes", f"{file}:make")
    assert code == 0 and text.split() == ["0", "cat", "1", "dog"]
    for wrong, said in (("number", "a function 'number'"), ("nothing", "a function 'nothing'")):
        code, text = run("classes", f"{file}:{wrong}")
        assert code == 2 and said in text
    code, text = run("classes", file)
    assert code == 2 and f"a function of the file, as {file}:make" in text
    code, text = run("classes", f"{tmp_path / 'other.py'}:make")
    assert code == 2 and "a file of Python" in text


def test_classes_and_layers_are_listed(models: tuple[str, str]) -> None:
    code, text = run("classes", models[0])
    assert code == 0 and text.split()[1::2] == list(LABELS)
    code, text = run("layers", models[0])
    assert code == 0 and "resnet.encoder  (ResNetEncoder)" in text
    code, text = run("classes", "background")
    assert code == 2 and "did you mean tinyworld/background?" in text


def test_a_warning_is_one_line() -> None:
    said: list[str] = []
    before = warnings.formatwarning
    _exits(lambda: said.append(warnings.formatwarning("output: guessed", UserWarning, "a.py", 3)))()
    assert said == ["diffexplain-fast: warning: output: guessed\n"] and warnings.formatwarning is before


def test_the_version_is_printed() -> None:
    code, text = run("--version")
    assert code == 0 and text.strip().count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["boat", "--all"], "targets or --all, not both"),
        ([], "or --all, got nothing"),
        (["logit:boat + neuron:nothing"], "a neuron as neuron:LAYER:UNIT"),
        (["boat", "--dtype", "int8"], "dtype: wanted one of 3"),
        (["boat", "--memory", "8 apples"], "memory: wanted"),
        (["boat", "--candidates", "@missing.txt"], "--candidates: wanted a text file"),
        (["boat", "--candidates", "@."], "--candidates: wanted a text file"),
    ],
)
def test_bad_options_of_explain_are_named(
    models: tuple[str, str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, text = run("explain", models[0], *arguments, "--pipeline", models[1], "--out", tmp_path / "out", *QUICK)
    assert code == 2 and said in text and "Traceback" not in text
