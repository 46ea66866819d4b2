"""A folder of results that appears whole or not at all, also with other readers and writers, and after kills.

Every kind of result is saved by ``write_folder`` and read by ``read_folder``, which guarantee:

- A reader gets all files of one save: the old result or the new one, never some of each and never half a file.
- Several writers wait for one another, and the result of the last one stays. A writer that waits too long gets an
  error.
- A save that fails, or is killed at any moment, leaves the old result or the new one, whole. Its other files are
  hidden, readers ignore them, and the next save to the same place removes them. A save that is still running is not
  touched.
- Other files in the place are never lost: a folder that holds anything except a result is refused.
- An existing folder stays the same folder, with its owner and permissions, because only files in it are renamed: it may
  be a mount point, the current folder, the end of a link, or lie in a folder without write permission.

A save works as follows. It claims the folder by a locked file in it and writes all files into a hidden folder inside.
*Renaming that folder from* ``.diffexplain-new`` *to* ``.diffexplain-saved`` *is the moment at which the new result
takes the place of the old one*: readers prefer the manifest and the files in it. Then the files move to their places,
the manifest last. If a writer is killed while it moves them, the next one that claims the folder completes the move. A
folder that does not exist is created beside its place, under a hidden name, and renamed when it is complete."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from diffexplain_fast.errors import CorruptFileError, describe, wrong_value
from diffexplain_fast.file_systems import (
    claim,
    claimed,
    is_file_at,
    parents_of,
    release,
    remove_all,
    remove_empty,
    replace_file,
    short_name,
    sync_folder,
)
from diffexplain_fast.storage import MANIFEST, confined, parse_manifest, read_manifest, storage_error, write_manifest

_LOCK, _NEW, _SAVED = ".diffexplain-lock", ".diffexplain-new", ".diffexplain-saved"
_PATIENCE = 60.0
"""Seconds that a writer waits for other writers, and that a reader tries to read a folder that others keep
replacing."""
Result = TypeVar("Result")


def write_folder(target: Path, write: Callable[[Path], None]) -> Path:
    """Save a result into a folder, which appears whole or not at all; the module lists the guarantees.

    Args:
        target: a new or empty folder, or a saved result, which is replaced; or a link to one.
        write: function that writes all files into the empty folder that it receives. If it writes no manifest, a
            manifest is added.

    Returns:
        ``target``.

    Raises:
        ValueError: the folder holds anything else, or is a broken link.
        StorageError: no space, no permission, or other processes keep saving there; a result saved there before is
            intact.
    """
    try:
        saved = False
        while not saved:
            check_replaceable(target)
            saved = _save(Path(os.path.realpath(target)), write)
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise storage_error(target, "space and permission for a result", cause) from error
    return target


def read_folder(folder: str | Path) -> dict[str, bytes]:
    """Return the files of a saved result, all of one save, however often it is replaced in the meantime.

    Args:
        folder: folder that ``write_folder`` wrote.

    Returns:
        The content of each file by its path in the manifest; all have their recorded size and sha256.

    Raises:
        CorruptFileError: no manifest, a damaged one, or a missing or changed file, which the message names.
        UnsafeFileError: the manifest names a path outside the folder.
    """
    place = Path(folder)
    return _while_it_changes(place, lambda: _contents(place))


def check_replaceable(target: Path) -> None:
    """Refuse a place that ``write_folder`` may not replace, without any change of it.

    Args:
        target: place where a result will be saved.

    Raises:
        ValueError: a file, a folder with other files in it, or a broken link.
    """
    for path in (target, *target.parents):
        if path.is_symlink() and not path.exists():
            end = os.path.realpath(path)
            raise wrong_value("folder", "a folder or a link to one", f"{path}, a link to {end}, which does not exist")
    if target.exists():
        _while_it_changes(target, lambda: _refuse_others(target))


def _save(place: Path, write: Callable[[Path], None]) -> bool:
    """Save into a folder, or return False if another writer has created or removed it since; then nothing is saved."""
    if not place.is_dir():
        with parents_of(place):
            return _create(place, write)
    try:
        lock = claim(place / _LOCK, _PATIENCE)
    except FileNotFoundError:
        return False
    try:
        _replace(place, lock, write)
    finally:
        release(lock, place / _LOCK)
    _remove_leftover(_beside(place))
    return True


def _create(place: Path, write: Callable[[Path], None]) -> bool:
    """Create a folder beside its place, save into it and rename it; the result is as in ``_save``."""
    beside = _beside(place)
    beside.mkdir(exist_ok=True)
    try:
        lock = claim(beside / _LOCK, _PATIENCE)
    except FileNotFoundError:
        return False
    try:
        if missing := not place.exists():
            _replace(beside, lock, write)
            missing = _renamed(beside, place)
        return missing
    finally:
        if is_file_at(lock, beside / _LOCK):
            remove_all(beside, except_name=_LOCK)
            release(lock, beside / _LOCK)
            remove_empty(beside)
        else:
            release(lock, place / _LOCK)


def _beside(place: Path) -> Path:
    """Return the path at which a new folder is created; its name is short even if the folder's name is long."""
    return place.parent / f"{short_name(place.name)}.saving"


def _remove_leftover(beside: Path) -> None:
    """Remove the files that a killed writer left beside a folder that another writer has created since."""
    if beside.is_dir():
        with suppress(OSError), claimed(beside / _LOCK, 0.0):
            remove_all(beside, except_name=_LOCK)
        remove_empty(beside)


def _renamed(beside: Path, place: Path) -> bool:
    """Rename a complete folder to its place, or return False if another writer has created a folder there."""
    try:
        os.rename(beside, place)
    except OSError:
        if place.is_dir():
            return False
        raise
    sync_folder(place.parent)
    return True


def _replace(place: Path, lock: int, write: Callable[[Path], None]) -> None:
    """Replace the result in a claimed folder."""
    _settle(place)
    _refuse_others(place)
    new = place / _NEW
    try:
        new.mkdir()
        write(new)
        if not (new / MANIFEST).exists():
            write_manifest(new)
        sync_folder(new)
        if not is_file_at(lock, place / _LOCK):
            raise OSError(errno.ESTALE, "the folder was moved or removed during the save")
        os.rename(new, place / _SAVED)
        sync_folder(place)
    finally:
        _settle(place)


def _settle(place: Path) -> None:
    """Complete a save that has taken effect in a claimed folder, and remove one that has not."""
    shutil.rmtree(place / _NEW, ignore_errors=True)
    saved = place / _SAVED
    if (saved / MANIFEST).is_file():
        names = read_manifest(saved).keys()
        for name in _names(place) - names:
            path = confined(place, name)
            path.unlink(missing_ok=True)
            for folder in path.relative_to(os.path.realpath(place)).parents[:-1]:
                remove_empty(place / folder)
        changed = {place}
        for name in names:
            if (moving := confined(saved, name)).is_file():  # otherwise a killed writer has moved it
                path = confined(place, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(moving, path)
                changed.add(path.parent)
        for folder in changed:
            sync_folder(folder)
        replace_file(saved / MANIFEST, place / MANIFEST)
        sync_folder(place)
    shutil.rmtree(saved, ignore_errors=True)


def _names(folder: Path) -> set[str]:
    """Return the files that the manifest of a folder names; none if there is no manifest."""
    return set(read_manifest(folder)) if (folder / MANIFEST).is_file() else set()


def _refuse_others(target: Path) -> None:
    others = [target.name]
    if target.is_dir():
        ours = {MANIFEST} | _names(target) | _names(target / _SAVED)
        others = sorted(name for name in _files_in(target) if name not in ours)
    if others:
        wanted = "a new or empty folder, or a folder with only a saved result"
        raise wrong_value("folder", wanted, f"{target} with {', '.join(others[:5])}")


def _files_in(target: Path) -> Iterator[str]:
    """Yield the files and links in a folder at any depth, except the files of the saving itself."""
    for base, folders, files in os.walk(target):
        inside = Path(base).relative_to(target)
        if inside == Path():
            folders[:] = [name for name in folders if name not in (_NEW, _SAVED)]
            files = [name for name in files if name != _LOCK]
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        yield from ((inside / name).as_posix() for name in (*files, *links))


def _while_it_changes(folder: Path, look: Callable[[], Result]) -> Result:
    """Return the result of ``look``; if it fails, call it again if a save has changed the folder since."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        before = _state(folder)
        try:
            return look()
        except (OSError, ValueError):
            if _state(folder) == before or time.monotonic() > deadline:
                raise


def _state(folder: Path) -> list[tuple[int, ...] | None]:
    """Return numbers of the manifests of a folder that change with every save."""
    stats: list[tuple[int, ...] | None] = []
    for path in (folder / _SAVED / MANIFEST, folder / MANIFEST):
        try:
            stat = path.stat()
            stats.append((stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size))
        except OSError:
            stats.append(None)
    return stats


def _bytes_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def _contents(place: Path) -> dict[str, bytes]:
    for home in (place / _SAVED, place):
        if (manifest := _bytes_or_none(home / MANIFEST)) is not None:
            files = parse_manifest(manifest, home / MANIFEST)
            return {name: _content(place, name, entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    wanted = "a manifest (a folder that this package has written completely)"
    raise CorruptFileError(describe(str(place / MANIFEST), wanted, "no file"))


def _content(place: Path, name: str, size: int, sha256: str) -> bytes:
    """Return the content of a file, from the folder in which it was written or else from its final place."""
    path = confined(place, name)
    contents = [_bytes_or_none(confined(place / _SAVED, name)), _bytes_or_none(path)]
    for data in contents:
        if data is not None and len(data) == size and hashlib.sha256(data).hexdigest() == sha256:
            return data
    last = contents[-1]
    if last is None:
        raise CorruptFileError(describe(str(path), "the file that its manifest names", "no file"))
    if len(last) != size:
        raise CorruptFileError(describe(str(path), f"{size} bytes", len(last)))
    raise CorruptFileError(describe(str(path), f"sha256 {sha256}", hashlib.sha256(last).hexdigest()))
