"""Unusual places to write to: mount points (without permission to mount, the test is skipped) and other users'
folders."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted_folder(place: Path) -> Iterator[None]:
    """Create a folder that is a mount point, like the volume of a container.

    Args:
        place: the folder, which does not exist.
    """
    place.mkdir()
    with _mounted(["-t", "tmpfs", "none"], place):
        yield


@contextmanager
def bound_file(place: Path) -> Iterator[Path]:
    """Create a file that is a mount point, like a single file that is mounted into a container.

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
    """Create a folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def run_as_nobody(code: str, *arguments: object) -> str:
    """Run code in a new process and return its output; if this user is root, the process runs as a user without files.

    Args:
        code: Python code; ``sys`` and this package's modules for files are already imported.
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
