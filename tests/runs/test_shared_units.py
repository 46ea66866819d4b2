"""Units that several processes share: each is made once, whole, under one identity."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from diffexplain_fast.errors import CorruptFileError, StorageError
from diffexplain_fast.file_systems import claimed, short_name
from diffexplain_fast.runs.shared_units import SharedUnits

KEYS = [f"unit-{i:02d}" for i in range(12)]


def units(folder: Path, **identity: object) -> SharedUnits:
    """Return the units of a folder."""
    return SharedUnits(folder, {"weights": "abc", **identity}, ".txt")


def test_units_are_made_once_and_read_by_others(tmp_path: Path) -> None:
    made: list[str] = []

    def make(key: str) -> bytes:
        made.append(key)
        return key.encode()

    units(tmp_path / "pool").complete(KEYS[:5], make)
    second = units(tmp_path / "pool")
    second.complete(KEYS, make)
    assert made == KEYS
    assert [second.read(key) for key in KEYS] == [key.encode() for key in KEYS]


def test_a_process_that_was_killed_while_it_made_the_folder_leaves_a_folder_for_the_next(tmp_path: Path) -> None:
    (tmp_path / f"{short_name('identity.json')}.tmp").write_text('{"weig')  # no process has it
    (tmp_path / f"{short_name('identity.json')}.0123abcd.tmp").write_text("")
    (tmp_path / ".diffexplain-lock").touch()
    units(tmp_path).complete(KEYS[:1], str.encode)
    assert units(tmp_path).read(KEYS[0]) == KEYS[0].encode()


def test_two_workers_share_the_units(tmp_path: Path) -> None:
    made: list[str] = []

    def make(key: str) -> bytes:
        made.append(key)
        time.sleep(0.01)
        return key.encode()

    workers = [threading.Thread(target=units(tmp_path).complete, args=(KEYS, make)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(made) == KEYS


def test_a_unit_whose_maker_is_alive_is_waited_for(tmp_path: Path) -> None:
    ours = units(tmp_path)
    seen: list[int] = []
    with claimed(tmp_path / ".unit-00.lock", 0.0):
        waiting = threading.Thread(
            target=ours.complete, args=(KEYS[:2], str.encode), kwargs={"report": lambda done, total: seen.append(done)}
        )
        waiting.start()
        time.sleep(0.2)
        assert waiting.is_alive() and ours.path("unit-01").exists() and not ours.path("unit-00").exists()
    waiting.join(10)
    assert not waiting.is_alive() and ours.read("unit-00") == b"unit-00"


def test_a_lock_that_a_killed_process_left_does_not_matter(tmp_path: Path) -> None:
    ours = units(tmp_path)
    (tmp_path / ".unit-00.lock").write_bytes(b"")
    ours.complete(KEYS[:1], str.encode)
    assert ours.read("unit-00") == b"unit-00"


def test_a_unit_that_fails_keeps_those_before_it(tmp_path: Path) -> None:
    def make(key: str) -> bytes:
        if key == KEYS[3]:
            raise ArithmeticError("a NaN")
        return key.encode()

    ours = units(tmp_path)
    with pytest.raises(ArithmeticError):
        ours.complete(KEYS, make)
    assert [ours.path(key).exists() for key in KEYS[:5]] == [True, True, True, False, False]
    ours.complete(KEYS, str.encode)  # the failed unit's lock is gone


def test_another_identity_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    units(tmp_path).complete(KEYS[:1], str.encode)
    with pytest.raises(
        ValueError, match=r'folder: wanted units of the same seed and weights.*got seed: null, not 3; weights: "abc"'
    ):
        SharedUnits(tmp_path, {"weights": "abd", "seed": 3}, ".txt")
    assert units(tmp_path).read("unit-00") == b"unit-00"


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"folder: wanted a new or empty folder.*thesis.txt"):
        units(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_what_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="wanted a folder for shared units"):
        units(tmp_path / "file")


def test_a_missing_unit_and_a_wrong_key_are_named(tmp_path: Path) -> None:
    ours = units(tmp_path)
    with pytest.raises(CorruptFileError, match=r"unit-00.txt: wanted a stored unit, got no file"):
        ours.read("unit-00")
    with pytest.raises(ValueError, match="key: wanted small letters"):
        ours.path("../unit")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    shared = units(tmp_path)
    shared.path("unit-01").mkdir()
    with pytest.raises(CorruptFileError, match=r"unit-01\.txt: wanted a stored unit, got a folder \(remove it"):
        shared.read("unit-01")
    (tmp_path / "identity.json").unlink()
    (tmp_path / "identity.json").mkdir()
    with pytest.raises(CorruptFileError, match=r"identity\.json: wanted a file, got a folder"):
        units(tmp_path)


@pytest.mark.parametrize("dies", [False, True])
def test_the_workers_of_one_process_are_waited_for_and_what_they_leave_is_made(tmp_path: Path, dies: bool) -> None:
    at_work, go_on = threading.Event(), threading.Event()
    by_workers, alone = list[str](), list[str]()

    def workers(missing: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for number, key in enumerate(missing):
            if number == 3:
                at_work.set()
                assert go_on.wait(60)
                if dies:
                    raise InterruptedError
            by_workers.append(key)
            yield key, b"by a worker"

    def make(key: str) -> bytes:
        alone.append(key)
        return b"alone"

    def first() -> None:
        with suppress(InterruptedError):
            units(tmp_path).complete(KEYS, make, workers=workers)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert at_work.wait(60)
    threads.append(threading.Thread(target=units(tmp_path).complete, args=(KEYS, make, lambda *_: None, lambda _: ())))
    threads[1].start()
    time.sleep(0.3)
    assert by_workers == KEYS[:3] and alone == [], "the second process waits"
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert (by_workers, alone) == ((KEYS[:3], KEYS[3:]) if dies else (KEYS, []))
    assert [units(tmp_path).read(key) for key in (KEYS[0], KEYS[-1])] == [
        b"by a worker",
        b"alone" if dies else b"by a worker",
    ]


def test_units_are_made_while_there_are_no_workers_yet(tmp_path: Path) -> None:
    made: list[str] = []

    def make(key: str) -> bytes:
        made.append(key)
        return b""

    asked: list[int] = []
    units(tmp_path).complete(KEYS, make, workers=lambda missing: asked.append(len(missing)) or ())
    assert made == KEYS and asked == [*range(len(KEYS), 0, -1)], "after each unit it looks for workers again"
