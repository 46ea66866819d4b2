"""The help of every command, as a terminal of 80 columns shows it."""

import re
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app


def commands(group: object, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the names of every command and of every group, from the outermost group on."""
    yield names
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*names, name))


EVERY = list(commands(typer.main.get_command(app)))


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_nothing_is_cut_and_every_option_is_a_sentence(words: tuple[str, ...]) -> None:
    text = shown(*words)
    listed = re.findall(r"^  (?! )(\S+)  +(.*)$", text.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, said in listed if not said or "..." in said] == []
    for line in text.splitlines():
        assert len(line) <= 80
    command = typer.main.get_command(app)
    for name in words:
        command = command.commands[name]  # type: ignore[attr-defined]
    for parameter in command.params:
        said = getattr(parameter, "help", None) or ""
        assert said.endswith(".") and not said[0].islower(), f"{parameter.name}: {said}"


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_an_example_is_a_line_of_its_own(words: tuple[str, ...]) -> None:
    lines = shown(*words).splitlines()
    for number, line in enumerate(lines):
        if "Example" in line:
            assert line.startswith("  Example: diffexplain-fast ") and not lines[number - 1] and not lines[number + 1]


def test_the_short_option_shows_the_same() -> None:
    assert (
        CliRunner().invoke(app, ["bench", "run", "-h"]).stdout
        == CliRunner().invoke(app, ["bench", "run", "--help"]).stdout
    )
