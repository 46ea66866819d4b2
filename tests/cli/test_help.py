"""The help of every command, as a terminal of 80 columns shows it."""

import re
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from diffexplain_fast.cli.device import _DTYPES
from diffexplain_fast.cli.main import app
from diffexplain_fast.engine.checks import BACKENDS
from diffexplain_fast.engine.scheduler_names import SCHEDULERS
from diffexplain_fast.measuring.bench.workloads import WORKLOADS
from diffexplain_fast.measuring.estimate import CARDS
from diffexplain_fast.methods.diffex.kinds import EDITORS
from diffexplain_fast.models.public import PUBLIC
from diffexplain_fast.prediction.rates import GPUS


def commands(group: object, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the names of every command and of every group, from the outermost group on."""
    yield names
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*names, name))


EVERY = list(commands(typer.main.get_command(app)))


def parameters(words: tuple[str, ...]) -> list[typer.models.ParameterInfo]:
    """Return the options and arguments of a command or group by its names."""
    command = typer.main.get_command(app)
    for name in words:
        command = command.commands[name]  # type: ignore[attr-defined]
    return command.params


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
    for parameter in parameters(words):
        said = getattr(parameter, "help", None) or ""
        assert said.endswith(".") and not said[0].islower(), f"{parameter.name}: {said}"


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_an_example_is_a_line_of_its_own(words: tuple[str, ...]) -> None:
    lines = shown(*words).splitlines()
    for number, line in enumerate(lines):
        if "Example" in line:
            assert line.startswith("  Example: diffexplain-fast ") and not lines[number - 1] and not lines[number + 1]


ACCEPTED = {
    "backend": BACKENDS,
    "dtype": _DTYPES,
    "editor": EDITORS,
    "scheduler": SCHEDULERS,
    "workload": WORKLOADS,
    "bench estimate model": PUBLIC,
    "bench model model": PUBLIC,
}
"""Option, or command and option, to the values that it accepts: its help names all of them, in quotes."""
EXAMPLES = {"bench estimate gpu": CARDS, "bench model gpu": GPUS}
"""The same for options of which the help names a few."""


def every_parameter() -> Iterator[tuple[str, typer.models.ParameterInfo]]:
    """Give each option of each command, with the names of both."""
    for words in EVERY:
        yield from ((" ".join([*words, parameter.name or ""]), parameter) for parameter in parameters(words))


def quoted(said: str) -> set[str]:
    return set(re.findall(r'"([^"]+)"', said))


def test_help_names_the_values_that_are_accepted_as_they_are_typed() -> None:
    seen = set()
    for name, parameter in every_parameter():
        option = name.rpartition(" ")[2]
        wanted = ACCEPTED.get(name, ACCEPTED.get(option) if not name.startswith("bench model") else None)
        some = EXAMPLES.get(name)
        named = quoted(getattr(parameter, "help", None) or "")
        if wanted is not None:
            assert named == set(wanted), name
        if some is not None:
            assert named and named <= set(some), name
        accepted = wanted or some or {}
        assert not accepted or parameter.default in (None, *accepted), name
        seen |= {name, option} & {*ACCEPTED, *EXAMPLES}
    assert seen == {*ACCEPTED, *EXAMPLES}


def test_no_help_names_a_value_without_quotes() -> None:
    """A value that begins a sentence would be written with a capital letter, in which nobody can type it."""
    values = {value for names in ACCEPTED.values() for value in names} | {*GPUS}
    words = [value for value in values if re.search(r"[0-9]", value)]
    for name, parameter in every_parameter():
        said = re.sub(r'"[^"]+"', "", getattr(parameter, "help", None) or "")
        assert [word for word in words if re.search(rf"\b{re.escape(word)}\b", said, re.IGNORECASE)] == [], name


@pytest.mark.parametrize("command", ["explain", "audit", "attribute"])
def test_what_names_models_and_numbers_is_the_same_for_every_command_that_explains(command: str) -> None:
    wanted = {"pipeline", "scheduler", "seed", "backend", "dtype", "device"}
    found = {parameter.name: parameter for parameter in parameters((command,))}
    like = {parameter.name: parameter for parameter in parameters(("explain",))}
    for name in wanted:
        assert found[name].help == like[name].help and found[name].default == like[name].default, name


def test_the_short_option_shows_the_same() -> None:
    assert (
        CliRunner().invoke(app, ["bench", "run", "-h"]).stdout
        == CliRunner().invoke(app, ["bench", "run", "--help"]).stdout
    )


def test_a_comparison_has_a_help_of_its_own() -> None:
    text = shown("audit", "diff")
    assert text.startswith("Usage: ") and "audit diff [OPTIONS]" in text and "FIRST" in text and "SECOND" in text
    listed = text.partition("Options:\n")[2]
    assert re.findall(r"^  (?:-h, )?(--[\w-]+)", listed, re.MULTILINE) == ["--out", "--fail-on", "--json", "--help"]
    assert "audit diff" not in shown().partition("Commands:")[2]


@pytest.mark.parametrize("word", ["help", "version"])
def test_words_that_are_options_are_told_so(word: str) -> None:
    result = CliRunner().invoke(app, [word])
    assert result.exit_code == 2 and f"Did you mean diffexplain-fast --{word}?" in result.output
