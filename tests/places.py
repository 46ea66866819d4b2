"""Unusual places to write to: mount points (the test is skipped where mounting is not allowed), and another user's."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted_folder(place: Path) -> Iterator[None]:
    """Make a folder that is a mount point, as the volume of a container is.

    Args:
        place: the folder, which does not exist.
    """
    place.mkdir()
    with _mounted(["-t", "tmpfs", "none"], place):
        yield


@contextmanager
def bound_file(place: Path) -> Iterator[Path]:
    """Make a file that is a mount point, as a single file of a container may be.

    Args:
        place: the file, which does not exist.

    Yields:
        The file behind it.
    """
    behind = place.with_name("behind")
    for path in (behind, place):
        path.write_bytes(b"")
    with _mounted(["--bind", str(behind)], place):
        yield behind


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that every user may enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def run_as_nobody(code: str, *arguments: object) -> str:
    """Run code in a process of a user to whom nothing belongs, if this one is root, and return what it prints.

    Args:
        code: run after ``sys`` is imported and this package's modules for files.
        arguments: ``sys.argv[1:]``.
    """
    start = (
        "import os, sys, torch; from diffexplain_fast import result_folder, storage\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    )
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def _mounted(what: list[str], place: Path) -> Iterator[None]:
    try:
        done = subprocess.run(["mount", *what, str(place)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount on this system")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], capture_output=True, check=True)
