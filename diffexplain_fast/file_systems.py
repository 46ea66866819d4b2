"""File-system functions for writers: a file claimed by a living process, renames, and data that is on the disk."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, the existence of the file is the claim
    fcntl = None  # type: ignore[assignment]

_NO_RENAME_OVER = {errno.EEXIST, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM}
_PATIENCE = 5.0
"""Seconds to wait for another writer of the same file."""
_FIXED = {errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors for a file that may be written but cannot be replaced by another one."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}(\.[0-9a-f]{8})?\.tmp")
_PAUSE = 0.002
"""Seconds between two attempts to claim a file that another writer has."""


def claim(path: Path, patience: float) -> int:
    """Create a file that no other caller of this function has, in this or in another process.

    The claim is a lock of the kernel on the new file, so it ends with the process, also by kill -9. A file without a
    lock is a leftover and is removed. On a file system without locks, a leftover looks like a claim.

    Args:
        path: the file; its folder exists.
        patience: seconds to wait for another writer.

    Returns:
        The descriptor of the new, empty file, open for writing. The claim ends by ``release``, or if the file is
        renamed and the descriptor closed.

    Raises:
        FileNotFoundError: the folder does not exist.
        TimeoutError: another writer has the file for longer than ``patience``.
        OSError: no permission, or the file exists on a file system without locks.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not _remove_leftover(path):
                if time.monotonic() >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, f"another process is writing there ({path})") from None
                time.sleep(_PAUSE)
            continue
        # Between the two calls, another writer could mistake the file for a leftover and remove it.
        if _lock(descriptor) is not False and is_file_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def release(descriptor: int, path: Path) -> None:
    """End a claim and remove its file if it is still there.

    Args:
        descriptor: descriptor that ``claim`` returned.
        path: present path of the file.
    """
    try:
        if is_file_at(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)


@contextmanager
def claimed(path: Path, patience: float) -> Iterator[None]:
    """Claim a file for the body, and remove it afterwards; see ``claim``.

    Args:
        path: the file; its folder exists.
        patience: seconds to wait for another writer.
    """
    descriptor = claim(path, patience)
    try:
        yield
    finally:
        release(descriptor, path)


def is_file_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the file at a path.

    Args:
        descriptor: descriptor of the open file.
        path: the path; links are not followed.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """Create the folders above a path; if the body fails, remove those that were created.

    Args:
        path: path of a file or folder that the body writes.

    Raises:
        OSError: a folder cannot be created.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            remove_empty(folder)
        raise


def short_name(name: str) -> str:
    """Return a hidden name derived from another name; it is short even if the other name is long."""
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def is_leftover(name: str) -> bool:
    """Return whether a file's name is one under which ``write_content`` writes before it renames."""
    return _TEMPORARY.fullmatch(name) is not None


def replace_file(source: Path, target: Path) -> None:
    """Rename a file so that it replaces another one, in two steps on a file system that cannot do it in one.

    Args:
        source: the new file.
        target: the file to replace; need not exist.

    Raises:
        OSError: the file could not be renamed; the target is unchanged.
    """
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno not in _NO_RENAME_OVER or not target.is_file():
            raise
        aside = target.with_name(f"{short_name(target.name)}.old")
        aside.unlink(missing_ok=True)
        os.rename(target, aside)
        try:
            os.rename(source, target)
        except BaseException:
            os.rename(aside, target)
            raise
        aside.unlink()


def write_content(place: Path, data: bytes) -> None:
    """Replace a file by a new one, or write in place if it cannot be replaced, for example a mount point.

    Args:
        place: the file, not a link; its folder exists.
        data: the whole content.

    Raises:
        OSError: no space or no permission; the file is unchanged.
    """
    try:
        _replace_content(place, data)
    except OSError as error:
        if error.errno not in _FIXED or not place.is_file():
            raise
        _overwrite_content(place, data)


def _replace_content(place: Path, data: bytes) -> None:
    """Write a new file beside the old one and rename it, so that it replaces the old one."""
    temporary = place.with_name(f"{short_name(place.name)}.tmp")
    try:
        descriptor = claim(temporary, _PATIENCE)
    except OSError:  # a stopped writer, another user's leftover, or no locks: a unique name always works
        temporary = place.with_name(f"{short_name(place.name)}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(os.dup(descriptor), "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        replace_file(temporary, place)
    finally:
        release(descriptor, temporary)
    sync_folder(place.parent)


def _overwrite_content(place: Path, data: bytes) -> None:
    """Write a file in place; if that fails, restore its old content."""
    before = place.read_bytes()
    with open(place, "r+b", buffering=0) as file:
        try:
            _write_whole(file, data)
        except BaseException:
            _write_whole(file, before)
            raise


def _write_whole(file: FileIO, data: bytes) -> None:
    file.seek(0)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate(len(data))
    sync(file.fileno())


def remove_all(folder: Path, *, except_name: str) -> None:
    """Remove the content of a folder, as far as permissions allow.

    Args:
        folder: the folder, which is not removed.
        except_name: name of an entry that is not removed.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != except_name:
            path.unlink()


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty.

    Args:
        folder: the folder; need not exist.
    """
    with suppress(OSError):
        folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut, if the system can open and synchronise folders."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder can be writable without being readable
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Flush an open file or folder to the disk, if its file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _remove_leftover(path: Path) -> bool:
    """Remove a file that no living writer has locked; return True if the name is free now."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return True
    try:
        locked = _lock(descriptor)
        if locked is None:
            raise OSError(errno.ENOLCK, f"if no other process is writing there, remove {path}")
        if locked and is_file_at(descriptor, path):
            path.unlink()
        return locked
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file; return False if another writer has locked it, None if the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
