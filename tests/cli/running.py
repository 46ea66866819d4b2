"""A command, run in the process of the test."""

from typer.testing import CliRunner

from diffexplain_fast.cli.main import app


def run(*arguments: object) -> tuple[int, str]:
    """Return exit code and all output of a command; an error that the command does not turn into a line raises.

    Args:
        arguments: words of the command line.
    """
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "100"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
