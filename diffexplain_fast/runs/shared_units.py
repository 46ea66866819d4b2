"""Units of work that several processes share: each is made once, and stored whole under its key."""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from diffexplain_fast.errors import CorruptFileError, describe, wrong_value
from diffexplain_fast.file_systems import claim, claimed, is_leftover, release
from diffexplain_fast.records import Json, JsonObject, read_as
from diffexplain_fast.storage import parse_json, storage_error, write_bytes_atomic, write_json_atomic

_IDENTITY, _LOCK, _WORKERS = "identity.json", ".diffexplain-lock", ".workers.lock"
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PATIENCE = 30.0
"""Seconds to wait for another process that writes the identity of the folder."""
_PAUSE = 0.05
"""Seconds between two looks at units that other processes are making."""


class SharedUnits:
    """A folder of units that belong to one identity.

    A unit appears whole or not at all. While a process makes a unit, that process holds the unit's lock, so another
    process makes other units first and then waits. A lock ends with its process, also by kill -9: then the next
    process makes the unit.

    Args:
        folder: created if it does not exist.
        identity: everything beside its key that decides what a unit is; JSON values.
        suffix: of the unit's files, such as ".png".

    Raises:
        ValueError: the folder holds units of another identity; names what differs.
        CorruptFileError: the folder's identity cannot be read.
        StorageError: the folder cannot be created or written.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Json], suffix: str) -> None:
        self.folder, self._suffix = Path(folder), suffix
        self.identity: JsonObject = json.loads(json.dumps(identity))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / _IDENTITY).exists():
                with claimed(self.folder / _LOCK, _PATIENCE):
                    if not (self.folder / _IDENTITY).exists():
                        self._refuse_others()
                        write_json_atomic(self.folder / _IDENTITY, self.identity)
        except OSError as error:
            raise storage_error(self.folder, "a folder for shared units of work", error) from error
        place = self.folder / _IDENTITY
        self._check_same(read_as(JsonObject, parse_json(_content(place, "a file", ""), place), str(place)))

    def path(self, key: str) -> Path:
        """Return where a unit lies, or will lie."""
        if not _KEY.fullmatch(key):
            raise wrong_value("key", "small letters, digits, '.', '_' and '-'", repr(key))
        return self.folder / f"{key}{self._suffix}"

    def complete(
        self,
        keys: Sequence[str],
        make: Callable[[str], bytes],
        report: Callable[[int, int], None] = lambda *_: None,
        workers: Callable[[Sequence[str]], Iterable[tuple[str, bytes]]] | None = None,
    ) -> None:
        """Make the units that are missing, and wait for those that other processes are making.

        Args:
            keys: of all units that are wanted.
            make: returns the content of a unit.
            report: receives units that are there and units that are wanted, after each unit.
            workers: yield key and content of missing units as they are made elsewhere; None to make all of them here.
                The workers of one process are asked at a time: another process waits, or, if its own yield nothing,
                makes the units that are left when those workers have ended.

        Raises:
            StorageError: a unit that cannot be written; all units before it are stored.
        """

        def stored(key: str, content: Callable[[], bytes]) -> bool:
            made = self._make(key, content)
            report(len(keys) - len(self._missing(keys)), len(keys))
            return made

        while missing := self._missing(keys):
            made = False
            if workers is not None:
                if not self._by_workers(missing, workers, stored):
                    time.sleep(_PAUSE)
                    continue
                missing = self._missing(keys)
            for key in missing:
                made |= stored(key, partial(make, key))
                if made and workers is not None:
                    break  # workers of another process may have begun
            if missing and not made:
                time.sleep(_PAUSE)

    def read(self, key: str) -> bytes:
        """Return the content of a unit.

        Raises:
            CorruptFileError: there is none, or something else has its name.
        """
        return _content(self.path(key), "a stored unit", " (remove it, and the unit is made again)")

    def _by_workers(
        self,
        missing: Sequence[str],
        workers: Callable[[Sequence[str]], Iterable[tuple[str, bytes]]],
        stored: Callable[[str, Callable[[], bytes]], bool],
    ) -> bool:
        """Store the units that workers make; return False if the workers of another process are at work."""
        lock = self.folder / _WORKERS
        try:
            descriptor = claim(lock, 0.0)
        except TimeoutError:
            return False
        except OSError as error:
            raise storage_error(lock, "permission to lock units", error) from error
        try:
            for key, content in workers(missing):
                stored(key, partial(bytes, content))
        finally:
            release(descriptor, lock)
        return True

    def _make(self, key: str, make: Callable[[], bytes]) -> bool:
        """Make a unit; return whether this process has stored it."""
        path, lock = self.path(key), self.folder / f".{key}.lock"
        if path.exists():
            return False
        try:
            descriptor = claim(lock, 0.0)
        except TimeoutError:
            return False  # another process is making it
        except OSError as error:
            raise storage_error(path, "permission to lock a unit", error) from error
        try:
            if path.exists():
                return False
            write_bytes_atomic(path, make())
            return True
        finally:
            release(descriptor, lock)

    def _missing(self, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if not self.path(key).exists()]

    def _refuse_others(self) -> None:
        names = [path.name for path in self.folder.iterdir()]  # a killed process may have left its half of an identity
        others = sorted(name for name in names if name != _LOCK and not is_leftover(name))
        if others:
            wanted = "a new or empty folder, or one that holds such units"
            raise wrong_value("folder", wanted, f"{self.folder} with {', '.join(others[:5])}")

    def _check_same(self, stored: JsonObject) -> None:
        keys = sorted(stored.keys() | self.identity)
        differing = [key for key in keys if stored.get(key) != self.identity.get(key)]
        if differing:
            got = "; ".join(
                f"{key}: {_short(stored.get(key))}, not {_short(self.identity.get(key))}" for key in differing
            )
            raise wrong_value("folder", f"units of the same {' and '.join(differing)} in {self.folder}", got)


def _content(path: Path, wanted: str, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptFileError(describe(str(path), wanted, "no file")) from error
    except IsADirectoryError as error:
        raise CorruptFileError(describe(str(path), wanted, f"a folder{remedy}")) from error


def _short(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
