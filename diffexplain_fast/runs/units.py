"""The scores of a screening in a file, so that an interrupted screening continues where it stopped."""

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
    """Scores by the name of the scored item; an added score is written to the file at once.

    Args:
        path: the file.
        run: identity of the run, which is stored beside the scores.
        scores: scores that the file already holds.
    """

    def __init__(self, path: Path, run: JsonObject, scores: dict[str, list[float]]) -> None:
        super().__init__()
        self.data, self._path, self._run = scores, path, run

    def __setitem__(self, key: str, scores: list[float]) -> None:
        """Add scores.

        Raises:
            StorageError: no space or no permission; the old content of the file is intact.
        """
        super().__setitem__(key, scores)
        write_json_atomic(self._path, self._run | {"scores": self.data, "sha256": _digest(self.data)})


def read_scores(path: Path) -> _Stored:
    """Return the scores in a file, with the identity of their run.

    Raises:
        CorruptFileError: a damaged file, or a file of another structure.
    """
    stored: _Stored = read_as(_Stored, read_json(path), str(path))
    if (digest := _digest(stored["scores"])) != stored["sha256"]:
        raise CorruptFileError(describe(str(path), f"scores of sha256 {stored['sha256']}", digest))
    return stored


def _digest(scores: dict[str, list[float]]) -> str:
    return hashlib.sha256(json.dumps(scores).encode()).hexdigest()
