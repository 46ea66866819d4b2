"""The command ``diffexplain-fast``: its subcommands and their exit codes."""

import functools
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from diffexplain_fast.cli import bench
from diffexplain_fast.cli.attribute import attribute
from diffexplain_fast.cli.demo import demo
from diffexplain_fast.cli.doctor import doctor
from diffexplain_fast.cli.estimate import estimate
from diffexplain_fast.cli.explain import explain
from diffexplain_fast.cli.profile import profile
from diffexplain_fast.errors import NonFiniteError

HELP = """Explain an image classifier: find what makes it answer with a class, in pictures, words and numbers.

A diffusion model draws pictures, and the gradient of the classifier's answer changes its prompt. The report shows
the pictures, the words nearest to the prompt, and how often the classifier agrees on pictures it was not tuned on.

Start with: diffexplain-fast demo. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

BENCH_HELP = """Measure one optimisation iteration beside what people do today, and show what was measured."""


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


app, bench_app = _group(HELP), _group(BENCH_HELP)


def _exits(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors a user can act on into one line and an exit code; any other error is 1, with its traceback."""

    @functools.wraps(command)
    def run(*args: object, **options: object) -> None:
        try:
            command(*args, **options)
        except KeyboardInterrupt:
            _stop(130, "interrupted")
        except (ValueError, TypeError, FileNotFoundError) as error:
            _stop(2, str(error))
        except (OSError, NonFiniteError, NotImplementedError, ImportError) as error:
            _stop(1, str(error))

    return run


def _stop(code: int, message: str) -> NoReturn:
    print(f"diffexplain-fast: {message}", file=sys.stderr)
    raise typer.Exit(code)


for _command in (demo, explain, attribute, profile, doctor):
    app.command()(_exits(_command))
for _command in (bench.run, bench.report, bench.agree, estimate):
    bench_app.command()(_exits(_command))
app.add_typer(bench_app, name="bench")
