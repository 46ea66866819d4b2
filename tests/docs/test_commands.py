"""Every command of the documentation exists with its options, and the commands that explain run."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from tests.docs.reading import PAGES, ROOT, commands, read
from tests.docs.stand_ins import with_stand_ins

COMMANDS = [(page, words) for page in PAGES for words in commands(read(page))]
_LAUNCHERS = ("torchrun", "accelerate")
"""Programs that start a command of ours in several processes."""
_OURS = [words[words.index("diffexplain-fast") + 1 :] for _, words in COMMANDS if "diffexplain-fast" in words]
_FEW = ("--iterations", "1", "--images", "2", "--steps", "1")
"""Options that replace those of a command, so that it takes less time."""
_EXPLAINING = [words for words in _OURS if words[0] == "explain" and not words[1].startswith("tinyworld")]


@pytest.mark.parametrize("words", _OURS, ids=" ".join)
def test_a_command_has_its_options(words: list[str]) -> None:
    command, rest = typer.main.get_command(app), list(words)
    context = command.make_context("diffexplain-fast", list(rest), resilient_parsing=True)
    while rest and (inner := getattr(command, "commands", {}).get(rest[0])) is not None:
        command, name = inner, rest.pop(0)
        context = command.make_context(name, list(rest), parent=context, resilient_parsing=True)
    assert len(rest) < len(words)
    # Options that do not exist raise here, because nothing is resilient any more.
    command.make_context("again", list(rest), parent=context.parent)


@pytest.mark.slow
@pytest.mark.parametrize("words", _EXPLAINING, ids=" ".join)
def test_an_explanation_runs(words: list[str], hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = shlex.split(with_stand_ins(shlex.join(words), hub))
    done = CliRunner().invoke(app, [*found, *_FEW], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert list(tmp_path.glob("*/report.html")) and list(tmp_path.glob("**/explanation"))


def test_other_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for _, (program, *rest) in COMMANDS:
        assert program in ("diffexplain-fast", "make", "pip", *_LAUNCHERS), program
        if program == "make":
            assert re.search(rf"^{rest[-1]}:", makefile, re.MULTILINE), rest


def test_commands_in_sentences_exist() -> None:
    top = typer.main.get_command(app)
    used = {name for page in PAGES for name in re.findall(r"`diffexplain-fast (\w+)", read(page))}
    assert used and used <= set(getattr(top, "commands", {}))
    assert _OURS and _EXPLAINING
