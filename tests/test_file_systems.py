"""Writing one file: with anything at its path, with other writers, and on every kind of file system."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.errors import StorageError
from diffexplain_fast.file_systems import claim, release
from diffexplain_fast.storage import write_bytes_atomic
from tests.places import bound_file, public_folder, run_as_nobody

LONGEST = 255
"""Longest name in bytes on the usual file systems."""


def test_files_with_the_longest_names_are_written(tmp_path: Path) -> None:
    for name in ("n" * LONGEST, "ü" * (LONGEST // 2)):
        write_bytes_atomic(tmp_path / name, b"a")
        write_bytes_atomic(tmp_path / name, b"b")
        assert (tmp_path / name).read_bytes() == b"b"
    assert len(os.listdir(tmp_path)) == 2


def test_a_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real.html", tmp_path / "link.html"
    real.parent.mkdir()
    link.symlink_to(Path("disk", "real.html"))
    for content in (b"made where the link leads", b"replaced there"):
        write_bytes_atomic(link, content)
        assert link.is_symlink() and real.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["disk", "link.html"] and os.listdir(real.parent) == ["real.html"]


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "not mounted" / "report.html")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for path in (tmp_path / "gone", tmp_path / "circle", tmp_path / "circle" / "report.html"):
        with pytest.raises(StorageError, match=path.name):
            write_bytes_atomic(path, b"x")
    assert sorted(os.listdir(tmp_path)) == ["circle", "gone"]


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(StorageError, match="not a regular file"):
            write_bytes_atomic(path, b"x")
    assert (tmp_path / "pipe").is_fifo() and Path(os.devnull).is_char_device()


@pytest.mark.parametrize("path", ["", "."])
def test_the_current_folder_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="got Is a directory"):
        write_bytes_atomic(path, b"x")


def test_folders_made_for_a_file_that_cannot_be_written_are_removed(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        write_bytes_atomic(tmp_path / "new" / "folder" / ("n" * 256), b"x")
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_a_mount_point_is_written_in_place(tmp_path: Path) -> None:
    with bound_file(tmp_path / "report.html") as behind:
        for content in (b"longer than the next", b"short"):
            write_bytes_atomic(tmp_path / "report.html", content)
            assert behind.read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["behind", "report.html"]


def test_a_file_in_a_folder_without_write_permission_is_written_in_place() -> None:
    with public_folder() as folder:
        path = folder / "report.html"
        path.write_bytes(b"longer than the next")
        path.chmod(0o666)
        folder.chmod(0o555)
        run_as_nobody("storage.write_bytes_atomic(sys.argv[1], b'short')", path)
        assert path.read_bytes() == b"short" and os.listdir(folder) == ["report.html"]
        folder.chmod(0o755)


def refusing(call: Callable[..., Any], number: int, when: Callable[..., bool]) -> Callable[..., Any]:
    """Return a system call as on a file system that lacks a part of it."""

    def refuse(*given: Any) -> Any:
        if when(*given):
            raise OSError(number, os.strerror(number))
        return call(*given)

    return refuse


def test_a_file_is_replaced_on_a_file_system_that_cannot_rename_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", refusing(os.replace, errno.EEXIST, lambda _, target: os.path.exists(target)))
    for content in (b"one", b"two"):
        write_bytes_atomic(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content and os.listdir(tmp_path) == ["a"]


def test_the_old_file_stays_on_a_file_system_that_cannot_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", refusing(os.replace, errno.EEXIST, lambda *_: True))
    monkeypatch.setattr(os, "rename", refusing(os.rename, errno.ENOSYS, lambda source, _: ".tmp" in str(source)))
    with pytest.raises(StorageError, match="not implemented"):
        write_bytes_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_is_written_on_a_file_system_without_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, number, lambda *_: True))
    write_bytes_atomic(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_disk_that_fails_at_fsync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, errno.EIO, lambda *_: True))
    with pytest.raises(StorageError, match="Input/output error"):
        write_bytes_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process see a file system without locks."""
    monkeypatch.setattr(fcntl, "flock", refusing(fcntl.flock, errno.ENOTSUP, lambda *_: True))


def test_a_file_is_written_on_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the writer of an existing file lives cannot be known: the file stays, and another name is used."""
    without_locks(monkeypatch)
    descriptor = claim(tmp_path / "claim", 0.0)
    with pytest.raises(OSError, match="if no other process is writing there, remove"):
        claim(tmp_path / "claim", 10.0)
    release(descriptor, tmp_path / "claim")
    write_bytes_atomic(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == ["a"]


def test_a_claim_is_waited_for(tmp_path: Path) -> None:
    descriptor = claim(tmp_path / "claim", 0.0)
    with pytest.raises(TimeoutError, match="another process is writing there"):
        claim(tmp_path / "claim", 0.01)
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(claim(tmp_path / "claim", 20.0)))
    waiting.start()
    assert not found
    release(descriptor, tmp_path / "claim")
    waiting.join()
    with pytest.raises(TimeoutError):
        claim(tmp_path / "claim", 0.0)
    release(found[0], tmp_path / "claim")
    assert os.listdir(tmp_path) == []


def test_the_files_of_a_killed_writer_are_replaced(tmp_path: Path) -> None:
    """The process is killed after all files are written, before any is renamed."""
    code = (
        "import os, signal, sys; from diffexplain_fast import storage\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "storage.write_bytes_atomic(sys.argv[1], b'half')"
    )
    (tmp_path / "a").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], check=False)
    assert done.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 2
    assert (tmp_path / "a").read_bytes() == b"old"
    write_bytes_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and os.listdir(tmp_path) == ["a"]
