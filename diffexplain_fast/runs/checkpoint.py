"""Checkpoints of an optimisation: a run that is interrupted, even by kill -9, resumes to the same bits.

A checkpoint is ``state-<n>.safetensors`` and ``state-<n>.json``; LATEST.json, written last and atomically, lists the
two newest with their sha256. So a crash at any moment leaves a list whose files are complete, and a newest checkpoint
that is damaged later falls back to the older one. Before the first state there are the scores of its screening.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TypedDict, TypeVar

import torch

from diffexplain_fast.errors import CorruptFileError, StorageError, describe
from diffexplain_fast.file_systems import claimed
from diffexplain_fast.records import Json, JsonObject, read_as
from diffexplain_fast.runs.units import StoredScores, read_scores
from diffexplain_fast.storage import read_json, sha256_file, storage_error, write_json_atomic

_LATEST, _SCREENING, _LOCK = "LATEST.json", "screening.json", ".diffexplain-lock"
_PATIENCE = 60.0
"""Seconds to wait for another run that saves into the same folder."""
_KEPT = 2
State = TypeVar("State")
_NAME = re.compile(r"state-\d{6,}")


class Answers(NamedTuple):
    """What a classifier and a target say about the pictures of a probe.

    Attributes:
        values: a few numbers; empty compares equal to empty alone.
        slack: by how much rounding may change each of them.
    """

    values: list[float]
    slack: float

    def agree(self, values: object) -> bool:
        """Whether recorded values are these, but for rounding; they come from a file and may be anything."""
        if not isinstance(values, list) or not all(isinstance(value, float) for value in values):
            return False
        ours, theirs = (torch.tensor(part, dtype=torch.float64, device="cpu") for part in (self.values, values))
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=self.slack, equal_nan=True)


class _Entry(TypedDict):
    name: str
    sha256: dict[str, str]


class _Latest(TypedDict):
    """LATEST.json; ``answers`` beside these, for NaN is an answer too."""

    config: JsonObject
    checkpoints: list[_Entry]


@dataclass(frozen=True)
class StateFiles(Generic[State]):
    """How a method keeps its state in a safetensors file and a JSON file.

    Attributes:
        write: of a state and the two paths; raises StorageError.
        read: of the two paths and a device; raises CorruptFileError for a state that no run can be in.
    """

    write: Callable[[State, Path, Path], None]
    read: Callable[[Path, Path, torch.device], State]


class Checkpoints(Generic[State]):
    """The checkpoints of one run in one folder.

    Args:
        folder: created if it does not exist.
        config: everything that decides the result of the optimisation; JSON values.
        files: how the method of the run keeps its state.
        answers: asks the classifier about fixed pictures, once and when all else agrees: a configuration does not see
            all that a classifier computes.

    Raises:
        StorageError: the folder cannot be created.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Json],
        files: StateFiles[State],
        answers: Callable[[], Answers],
    ) -> None:
        self.folder, self._files, self._ask = Path(folder), files, answers
        self.config = json.loads(json.dumps(config))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.folder, "a folder for checkpoints", error) from error

    @cached_property
    def _answers(self) -> Answers:
        return self._ask()

    def save(self, state: State) -> None:
        """Write a checkpoint, then the list, then remove what the list no longer names.

        Of several runs of one configuration in one folder each adds its states; the newest two are kept.

        Raises:
            StorageError: no space or no permission; the earlier checkpoints are intact.
        """
        try:
            with claimed(self.folder / _LOCK, _PATIENCE):
                self._save(state)
        except StorageError:
            raise
        except OSError as error:
            raise storage_error(self.folder, "space and permission for a checkpoint", error) from error

    def _save(self, state: State) -> None:
        kept = self._listed()
        name = f"state-{1 + max((int(entry['name'].removeprefix('state-')) for entry in kept), default=0):06d}"
        self._files.write(state, self.folder / f"{name}.safetensors", self.folder / f"{name}.json")
        hashes = {suffix: sha256_file(self.folder / f"{name}.{suffix}") for suffix in ("safetensors", "json")}
        kept = [_Entry(name=name, sha256=hashes), *kept][:_KEPT]
        write_json_atomic(self.folder / _LATEST, self._run() | {"checkpoints": kept})
        (self.folder / _SCREENING).unlink(missing_ok=True)
        names = {entry["name"] for entry in kept}
        for path in self.folder.glob("state-*"):
            if path.name.split(".")[0] not in names:
                path.unlink(missing_ok=True)

    def load(self, device: torch.device) -> State | None:
        """Return the newest undamaged state on a device, or None if the folder holds no checkpoint.

        Raises:
            ValueError: the checkpoint belongs to another configuration; names what differs.
            CorruptFileError: every checkpoint is damaged, or the newest is none of ours.
        """
        while True:
            kept = self._listed()
            try:
                return self._newest(kept, device) if kept else None
            except (CorruptFileError, FileNotFoundError):
                if self._listed() == kept:  # else another run has replaced them in the meantime
                    raise

    def _newest(self, kept: list["_Entry"], device: torch.device) -> State:
        for entry in kept:
            files = {suffix: self.folder / f"{entry['name']}.{suffix}" for suffix in ("safetensors", "json")}
            if all(
                path.is_file() and sha256_file(path) == entry["sha256"].get(suffix) for suffix, path in files.items()
            ):
                return self._files.read(files["safetensors"], files["json"], device)
        raise CorruptFileError(
            describe("checkpoint", f"an undamaged checkpoint in {self.folder}", "only damaged files")
        )

    def scores(self) -> StoredScores:
        """Return the scores of a screening that was interrupted; what is added to them is kept until a state is.

        Raises:
            ValueError: they belong to another configuration; names what differs.
            CorruptFileError: their file is damaged.
        """
        path, scores = self.folder / _SCREENING, {}
        try:
            stored = read_scores(path)
            self._check_same(stored)
            scores = stored["scores"]
        except FileNotFoundError:  # also where another run has just saved its first state
            pass
        return StoredScores(path, self._run(), scores)

    def _run(self) -> JsonObject:
        return {"config": self.config, "answers": self._answers.values}

    def _listed(self) -> list["_Entry"]:
        path = self.folder / _LATEST
        if not path.exists():
            return []
        latest = read_as(_Latest, read_json(path), str(path))
        kept = latest["checkpoints"]
        if not all(_NAME.fullmatch(entry["name"]) for entry in kept):
            raise CorruptFileError(describe(str(path), "checkpoints of our names", kept))
        self._check_same(latest)
        return kept

    def _check_same(self, stored: Mapping[str, Json]) -> None:
        theirs = stored["config"]
        wanted = f"a run of the same configuration in {self.folder}"
        differing = sorted(key for key in theirs.keys() | self.config if theirs.get(key) != self.config.get(key))
        if differing:
            found = "; ".join(f"{key}: {theirs.get(key)!r}, not {self.config.get(key)!r}" for key in differing)
            raise ValueError(describe("checkpoint", wanted, found))
        if not self._answers.agree(stored.get("answers")):
            found = "another: the classifier, its preprocess or the target answers the same pictures otherwise"
            raise ValueError(describe("checkpoint", wanted, found))
