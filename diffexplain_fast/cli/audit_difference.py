"""``diffexplain-fast audit diff``: how two saved audits differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.results.decision import check_condition

if TYPE_CHECKING:
    from diffexplain_fast.results.audit import Audit

FAILED = 3
"""Exit code where a condition of ``--fail-on`` is true."""


def difference(folders: Sequence[str], out: Path) -> "Audit":
    """Compare two saved audits, the first minus the second, and write the page and the difference.

    Args:
        folders: two folders with saved audits, or the folders that ``audit --out`` wrote.
        out: folder for report.html and the saved difference.

    Raises:
        ValueError: not two folders, or audits that share no row.
        CorruptFileError: a folder that is not a saved audit.
    """
    from diffexplain_fast.cli.output import check_folder
    from diffexplain_fast.results.audit import Audit

    if len(folders) != 2:
        raise wrong_value("audit diff", "two folders with saved audits", f"{len(folders)}")
    check_folder(out, ["report.html"], ["audit"])
    one, two = (Audit.load(_audit_in(Path(folder))) for folder in folders)
    return one.diff(two)


def _audit_in(folder: Path) -> Path:
    inside = folder / "audit"
    return inside if inside.is_dir() and not (folder / "audit.json").exists() else folder


def checked(conditions: Sequence[str] | None) -> list[str]:
    """Return the conditions of ``--fail-on``, each of which can be read.

    Raises:
        ValueError: a condition of another form, or an unknown measure.
    """
    for text in conditions or ():
        check_condition(text)
    return list(conditions or ())


def decide_or_stop(audit: "Audit", conditions: Sequence[str]) -> None:
    """Print what conditions say of an audit.

    Args:
        audit: whose settings hold the decisions already.
        conditions: of ``--fail-on``.

    Raises:
        typer.Exit: with code 3, a condition is true.
    """
    failed = [one for one in audit.decide(list(conditions)) if _print(one.sentence, one.failed)] if conditions else []
    if failed:
        raise typer.Exit(FAILED)


def _print(sentence: str, failed: bool) -> bool:
    print(f"{'FAILED' if failed else 'passed'}: {sentence}")
    return failed
