"""Saved audits that commands read, as the folder itself or as the one that ``audit --out`` wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError, wrong_value

if TYPE_CHECKING:
    from diffexplain_fast.results.audit import Audit

_RECORD, _INSIDE = "audit.json", "audit"
_WANTED = 'the folder of a saved audit, or one that "audit --out" wrote'


def audit_in(folder: Path) -> Path:
    """Return the folder of the saved audit: the one inside, where a command wrote it there.

    Args:
        folder: as the user gave it.
    """
    inside = folder / _INSIDE
    return inside if inside.is_dir() and not (folder / _RECORD).exists() else folder


def is_audit(folder: Path) -> bool:
    """Return whether a folder holds a saved audit, itself or inside."""
    return (audit_in(folder) / _RECORD).is_file()


def check_audit(argument: str, folder: Path) -> None:
    """Refuse what holds no saved audit.

    Args:
        argument: what names the folder, as messages call it.
        folder: as the user gave it.

    Raises:
        ValueError: no folder, or one without a saved audit; names the argument and the folder.
    """
    if not is_audit(folder):
        what = "a folder without one" if folder.is_dir() else "a file" if folder.exists() else "which does not exist"
        raise wrong_value(argument, _WANTED, f"{folder}, {what}")


def saved_audit(argument: str, folder: Path) -> "Audit":
    """Return a saved audit.

    Args:
        argument: what names the folder, as messages call it.
        folder: as the user gave it.

    Raises:
        ValueError: see ``check_audit``.
        CorruptFileError: a file of the audit is missing or damaged; names the argument and the file.
        UnsafeFileError: a recorded path leaves the folder.
    """
    from diffexplain_fast.results.audit import Audit

    check_audit(argument, folder)
    try:
        return Audit.load(audit_in(folder))
    except (CorruptFileError, UnsafeFileError) as error:
        raise type(error)(f"{argument}, {error}") from error
