"""``diffexplain-fast audit diff``: how two saved audits differ."""

import shlex
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffexplain_fast.cli.output import check_apart
from diffexplain_fast.cli.saved_audits import audit_in, check_audit, is_audit, saved_audit
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.results.decision import UNEXPLAINED, Decision, check_condition, check_of_difference

if TYPE_CHECKING:
    from diffexplain_fast.results.audit import Audit

_TWO = ("FIRST", "SECOND")
"""The two audits, as messages call them."""
FAILED = 3
"""Exit code where a condition of ``--fail-on`` is true."""
_WORD, _CLOSE = "diff", 0.75
"""The word that compares two audits, and how close to it a name is taken for a misspelling of it."""


def check_meant(classifier: str, targets: Sequence[str]) -> None:
    """Refuse a classifier that is a misspelt "diff", or anything else before two saved audits.

    Args:
        classifier: its name, as the user wrote it; one with a slash, or a folder that is there, is no misspelling.
        targets: what follows it.

    Raises:
        ValueError: see above; the message has the command that was probably meant.
    """
    close = SequenceMatcher(None, classifier.casefold(), _WORD).ratio() >= _CLOSE
    misspelt = close and "/" not in classifier and not Path(classifier).exists()
    both = len(targets) == 2 and all(is_audit(Path(target)) for target in targets)
    if misspelt or both:
        folders = targets if len(targets) == 2 else _TWO
        meant = shlex.join(["diffexplain-fast", "audit", _WORD, *folders])
        raise wrong_value("classifier", f"a classifier, or {_WORD!r} (did you mean {meant}?)", repr(classifier))


def difference(folders: Sequence[Path], out: Path) -> "Audit":
    """Return how two saved audits differ, the first minus the second.

    Args:
        folders: two folders with saved audits, or the folders that ``audit --out`` wrote.
        out: folder for the report and the difference.

    Raises:
        ValueError: not two folders, one without a saved audit, audits that share no row, or a difference that would
            replace one of them.
        CorruptFileError: a file of an audit that is missing or damaged.
    """
    if len(folders) != 2:
        raise wrong_value("audit diff", "two folders with saved audits", f"{len(folders)}")
    for argument, folder in zip(_TWO, folders, strict=True):
        check_audit(argument, folder)
    given = [audit_in(folder) for folder in folders]
    check_apart([out / "audit"], "the two audits", given)
    if any(folder.resolve() == out.resolve() for folder in given):
        raise wrong_value("--out", "another folder than those of the two audits", f"{out}")
    one, two = map(saved_audit, _TWO, folders)
    return one.diff(two)


def checked(conditions: Sequence[str] | None, pictures_of_own: bool, difference: bool = False) -> list[str]:
    """Return the conditions of ``--fail-on``, each of which can be read.

    Args:
        conditions: as the user wrote them; None for none.
        pictures_of_own: whether the audit has pictures of the user's own.
        difference: whether it is a difference of two audits.

    Raises:
        ValueError: a condition of another form, an unknown measure, or one that needs what there is not.
    """
    for text in conditions or ():
        if difference:
            check_of_difference("--fail-on", text)
        elif check_condition(text)[0] == UNEXPLAINED and not pictures_of_own:
            raise wrong_value("--fail-on", f"own pictures (--images) for {text!r}", "none")
    return list(conditions or ())


def print_decisions(decisions: Sequence[Decision]) -> None:
    """Print what the conditions of ``--fail-on`` say of an audit."""
    for one in decisions:
        print(f"{'FAILED' if one.failed else 'passed'}: {one.sentence}")


def stop_if_failed(decisions: Sequence[Decision]) -> None:
    """Stop where an audit fails.

    Raises:
        typer.Exit: with code 3, a condition is true.
    """
    if any(one.failed for one in decisions):
        raise typer.Exit(FAILED)
