"""A folder of results under several processes at once, and under kill -9 at every moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_result_folder import assert_at_rest

ROOT = Path(__file__).resolve().parents[1]
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from diffexplain_fast.result_folder import read_folder
from tests.test_result_folder import assert_at_rest, files_of, save
calls, last = 0, None
def counted(call):
    def act(*given, **named):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return act
for name in ("open", "rename", "replace", "unlink", "mkdir", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
os.fsync = lambda descriptor: None  # slow, and it changes nothing that a later process sees
top = Path(sys.argv[1])
place = top / "a"
for old, new in ((None, 3), (3, 1), (1, 2)):
    moment, status, seen = 0, None, set()
    while status != 0:
        moment += 1
        shutil.rmtree(place, ignore_errors=True)
        if old is not None:
            save(place, old)
        child = os.fork()
        if child == 0:
            calls, last = 0, moment
            save(place, new)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        found = read_folder(place) if place.exists() else None
        assert found in (files_of(new), None if old is None else files_of(old)), (old, new, moment)
        seen.add(found == files_of(new))
        assert_at_rest(save(place, 0), 0)
        assert os.listdir(top) == ["a"], (old, new, moment, os.listdir(top))
    assert moment > 20 and len(seen) == 2
print("every moment")
"""


@pytest.mark.slow
def test_a_writer_may_be_killed_at_every_moment(tmp_path: Path) -> None:
    """The writer is killed before its first system call that changes a folder, then before the second, and so on."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "every moment\n", done.stderr[-2000:]


MANY = """
import os, sys, time
from pathlib import Path
from diffexplain_fast.result_folder import read_folder
from tests.test_result_folder import assert_at_rest, files_of, save
place = Path(sys.argv[1])
def run(job):
    child = os.fork()
    if child == 0:
        try:
            os._exit(job())
        finally:
            os._exit(255)
    return child
def write(first):
    number = first
    while time.monotonic() < end:
        save(place, number)
        number += 3
    return 0
def read():
    seen = set()
    while time.monotonic() < end:
        found = read_folder(place)
        number = int(found["record.json"].split()[-1])
        assert found == files_of(number), (number, list(found))
        seen.add(number)
    return 0 if len(seen) > 3 else 1
for k in range(10):
    new = place.with_name(f"new {k}")
    jobs = [run(lambda number=number: save(new, number) and 0) for number in range(3)]
    assert [os.waitpid(job, 0)[1] for job in jobs] == [0, 0, 0]
    assert_at_rest(new, int((new / "record.json").read_bytes().split()[-1]))
end = time.monotonic() + float(sys.argv[2])
save(place, 0)
jobs = [run(lambda first=first: write(first)) for first in (1, 2, 3)] + [run(read) for _ in range(2)]
print([os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]) for job in jobs])
"""


def test_many_processes_read_and_write_only_whole_results(tmp_path: Path) -> None:
    """First ten new folders get three writers each, then one folder gets writers for a second."""
    command = [sys.executable, "-c", MANY, tmp_path / "a", "1.0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[0, 0, 0, 0, 0]\n", done.stdout + done.stderr[-2000:]
    assert sorted(os.listdir(tmp_path)) == ["a", *(f"new {k}" for k in range(10))]
    number = int((tmp_path / "a" / "record.json").read_bytes().split()[-1])
    assert_at_rest(tmp_path / "a", number)
