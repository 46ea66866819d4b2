"""What writers need of a file system: a file that is theirs while they live, renames, and data that is on the disk."""

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none: there the existence of the file is the claim
    fcntl = None  # type: ignore[assignment]

_NO_RENAME_OVER = {errno.EEXIST, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM}
_PATIENCE = 5.0
"""Seconds to wait for another writer of the same file."""
_FIXED = {errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS}
"""Errors of a file that cannot be replaced by another one, though it may be written."""
_PAUSE = 0.002
"""Seconds between two looks at a file that another writer has."""


def claim(path: Path, patience: float) -> int:
    """Make a file that no other caller of this function has, in this process or in another one.

    The claim is a lock of the kernel on the new file, so it ends with the process, also by kill -9: a file that nobody
    has locked is a leftover and is removed. On a file system without locks a leftover cannot be told from a claim.

    Args:
        path: the file; its folder exists.
        patience: seconds to wait for another writer.

    Returns:
        The descriptor of the new, empty file, open for writing. ``release`` ends the claim, and so does renaming the
        file and closing the descriptor.

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
        # Whoever looked between the two calls took it for a leftover, and has removed it or is about to.
        if _lock(descriptor) is not False and is_file_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def release(descriptor: int, path: Path) -> None:
    """End a claim and remove its file if it is still there.

    Args:
        descriptor: what ``claim`` returned.
        path: where the file is now.
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
    """Whether the open file is the one that lies at a path.

    Args:
        descriptor: of the open file.
        path: where to look; links are not followed.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """Make the folders above a path, and remove those that were missing if the body fails.

    Args:
        path: of a file or folder that the body writes.

    Raises:
        OSError: a folder cannot be made.
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
    """Return a hidden name that stands for another one and is short, however long the other is."""
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def replace_file(source: Path, target: Path) -> None:
    """Rename a file over another one, in two steps on a file system that cannot do it in one.

    Args:
        source: the new file.
        target: the file that it replaces, or nothing.

    Raises:
        OSError: the file could not be renamed; the target is as it was.
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
    """Replace a file by another one of new content, or write in place if it cannot be replaced, as a mount point.

    Args:
        place: the file, not a link; its folder exists.
        data: the whole content.

    Raises:
        OSError: no space or no permission; the file is as it was.
    """
    try:
        _replace_content(place, data)
    except OSError as error:
        if error.errno not in _FIXED or not place.is_file():
            raise
        _overwrite_content(place, data)


def _replace_content(place: Path, data: bytes) -> None:
    """Write a file beside its place and rename it over."""
    temporary = place.with_name(f"{short_name(place.name)}.tmp")
    try:
        descriptor = claim(temporary, _PATIENCE)
    except OSError:  # a writer that stands still, another user's leftover, or no locks: a name of our own always goes
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
    """Write a file in place, and put its old content back if that fails."""
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
    """Remove what is in a folder, as far as that may be done.

    Args:
        folder: the folder, which stays.
        except_name: a name in it that stays.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != except_name:
            path.unlink()


def remove_empty(folder: Path) -> None:
    """Remove a folder unless something is in it.

    Args:
        folder: the folder; need not exist.
    """
    with suppress(OSError):
        folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut; a no-op where folders cannot be opened or synchronised."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder may be written and searched without being listed
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Flush an open file or folder to the disk, where its file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _remove_leftover(path: Path) -> bool:
    """Remove a file that no living writer has locked; return whether nothing of that name is in the way now."""
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
    """Lock an open file; False: another writer has locked it; None: the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
