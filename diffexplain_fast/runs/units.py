"""The scores of a screening in a file, so that an interrupted one goes on where it stopped."""

import hashlib
import json
from collections import UserDict
from pathlib import Path
from typing import TypedDict

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.records import JsonObject, read_as
from diffexplain_fast.storage import read_json, write_json_atomic


class _Stored(TypedDict):
    config: JsonObject
    scores: dict[str, list[float]]
    sha256: str


class StoredScores(UserDict[str, list[float]]):
    """Scores by what was scored; whatever is added is in the file before anything else happens.

    Args:
        path: the file.
        run: what says whose scores they are; stored beside them.
        scores: what the file holds.
    """

    def __init__(self, path: Path, run: JsonObject, scores: dict[str, list[float]]) -> None:
        super().__init__()
        self.data, self._path, self._run = scores, path, run

    def __setitem__(self, key: str, scores: list[float]) -> None:
        """Add scores.

        Raises:
            StorageError: no space or no permission; what the file held is intact.
        """
        super().__setitem__(key, scores)
        write_json_atomic(self._path, self._run | {"scores": self.data, "sha256": _digest(self.data)})


def read_scores(path: Path) -> _Stored:
    """Return what a file of scores holds, with what says whose they are.

    Raises:
        CorruptFileError: a damaged file, or one of another structure.
    """
    stored: _Stored = read_as(_Stored, read_json(path), str(path))
    if (found := _digest(stored["scores"])) != stored["sha256"]:
        raise CorruptFileError(describe(str(path), f"scores of sha256 {stored['sha256']}", found))
    return stored


def _digest(scores: dict[str, list[float]]) -> str:
    return hashlib.sha256(json.dumps(scores).encode()).hexdigest()
