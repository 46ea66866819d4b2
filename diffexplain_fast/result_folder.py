"""A folder of results that appears whole or not at all, and replaces only what was saved there before."""

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.storage import MANIFEST, read_manifest, storage_error, sync_folder


def write_folder(target: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder beside its place and move it there when it is complete.

    Args:
        target: a new or empty folder, or a saved result, which is replaced.
        write: writes all files into the folder it is given, the manifest last.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds anything else.
        StorageError: no space or no permission; a result saved there before is intact.
    """
    check_replaceable(target)
    stem = f".{target.name}.{secrets.token_hex(4)}"
    new, old = target.with_name(f"{stem}.new"), target.with_name(f"{stem}.old")
    try:
        write(new)
        if target.exists():
            target.rename(old)
        new.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise storage_error(target, "space and permission for an explanation", cause) from error
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return target


def check_replaceable(target: Path) -> None:
    """Refuse to replace what ``save`` has not written: a file, or a folder with anything else in it."""
    if not target.exists():
        return
    foreign: list[str] = [target.name]
    if target.is_dir():
        ours = {MANIFEST, *read_manifest(target)} if (target / MANIFEST).is_file() else set()
        found = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
        foreign = sorted(found - ours)
    if foreign:
        wanted = "a new or empty folder, or a saved explanation and nothing else"
        raise wrong_value("folder", wanted, f"{target} with {', '.join(foreign[:5])}")
