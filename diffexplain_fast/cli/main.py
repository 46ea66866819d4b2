"""The command ``diffexplain-fast``: its subcommands and their exit codes."""

import functools
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from diffexplain_fast.cli import bench
from diffexplain_fast.cli.attribute import attribute
from diffexplain_fast.cli.audit import audit, diff
from diffexplain_fast.cli.bench_model import model
from diffexplain_fast.cli.classifiers import classes, layers
from diffexplain_fast.cli.demo import demo
from diffexplain_fast.cli.doctor import doctor
from diffexplain_fast.cli.explain import explain
from diffexplain_fast.cli.json_line import only_json
from diffexplain_fast.cli.profile import profile
from diffexplain_fast.errors import NonFiniteError

_NAME, _COMPARE = "diffexplain-fast", "audit diff"
HELP = """Explain an image classifier: find the pictures and words that make it answer with a class, with numbers.

A diffusion model draws pictures, and the gradient of the classifier's answer changes its prompt. The report shows
the pictures, the words nearest to the prompt, and how often the classifier agrees on pictures it was not tuned on.

Start with: diffexplain-fast demo. Exit codes: 0 done, 1 failed, 2 bad input, 3 a
condition of audit --fail-on is true, 130 interrupted.
"""

BENCH_HELP = """Measure one iteration against today's usual code.

Or estimate it for a GPU that is not here.
"""


class _Commands(TyperGroup):
    """The commands, of which one has a name of two words, and hints for words that are options here."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the command line up to the name of the command."""
        if args[:1] in (["help"], ["version"]):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {_NAME} --{args[0]}?")
        if " ".join(args[:2]) == _COMPARE:
            args = [_COMPARE, *args[2:]]
        return super().parse_args(ctx, args)


def _group(text: str, commands: type[TyperGroup] = TyperGroup) -> typer.Typer:
    return typer.Typer(
        cls=commands,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


app, bench_app = _group(HELP, _Commands), _group(BENCH_HELP)


def _print_version(wanted: bool) -> None:
    if wanted:
        from diffexplain_fast.environment import versions

        print(versions()["diffexplain_fast"])
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def _exits(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that a user can mend into one line and an exit code; other errors exit with 1 and a traceback.

    Warnings are one line too, without the line of code that they come from. With ``--json``, only JSON is on stdout.
    """

    @functools.wraps(command)
    def run(*args: object, **options: object) -> None:
        form, warnings.formatwarning = (
            warnings.formatwarning,
            lambda message, *_, **__: f"{_NAME}: warning: {message}\n",
        )
        try:
            with only_json() if options.get("as_json") else nullcontext():
                command(*args, **options)
        except KeyboardInterrupt:
            _stop(130, "interrupted")
        except (ValueError, TypeError, FileNotFoundError) as error:
            _stop(2, str(error))
        except (OSError, NonFiniteError, NotImplementedError, ImportError) as error:
            _stop(1, str(error))
        finally:
            warnings.formatwarning = form

    return run


def _stop(code: int, message: str) -> NoReturn:
    print(f"{_NAME}: {message}", file=sys.stderr)
    raise typer.Exit(code)


_command: Callable[..., None]
for _command in (demo, explain, audit, attribute, classes, layers, profile, doctor):
    app.command()(_exits(_command))
app.command(_COMPARE, hidden=True)(_exits(diff))
for _command in (bench.run, bench.report, bench.agree, bench.estimate, model):
    bench_app.command()(_exits(_command))
app.add_typer(bench_app, name="bench")
