"""Checkpoints of an optimisation: a run that is interrupted, even by kill -9, resumes to the same bits.

A checkpoint is ``state-<n>.safetensors`` and ``state-<n>.json``; LATEST.json, written last and atomically, lists the
two newest with their sha256. So a crash at any moment leaves a list whose files are complete, and if the newest
checkpoint is damaged later, the older one is used. Before the first state, the folder holds the scores of its
screening."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TypedDict, TypeVar

import torch

from diffexplain_fast.errors import AnotherRunError, CorruptFileError, StorageError, describe
from diffexplain_fast.file_systems import claimed
from diffexplain_fast.given_files import given_path
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
    """The answers of a classifier and a target to fixed pictures.

    Attributes:
        values: a few numbers; no numbers are equal only to no numbers.
        slack: largest change of each number by rounding.
    """

    values: list[float]
    slack: float

    def agree(self, values: object) -> bool:
        """Return whether recorded values equal these up to rounding; they come from a file and can be anything."""
        if not isinstance(values, list) or not all(isinstance(value, float) for value in values):
            return False
        ours, theirs = (torch.tensor(numbers, dtype=torch.float64, device="cpu") for numbers in (self.values, values))
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=self.slack, equal_nan=True)


class _Entry(TypedDict):
    name: str
    sha256: dict[str, str]


class _Latest(TypedDict):
    """The keys of LATEST.json, except ``answers``, which can be NaN."""

    config: JsonObject
    checkpoints: list[_Entry]


class _Begun(TypedDict):
    """What is read of screening.json before its scores are."""

    config: JsonObject


@dataclass(frozen=True)
class StateFiles(Generic[State]):
    """The functions by which a method stores its state in a safetensors file and a JSON file.

    Attributes:
        write: function of a state and the two paths; raises StorageError.
        read: function of the two paths and a device; raises CorruptFileError for a state that no run can have.
    """

    write: Callable[[State, Path, Path], None]
    read: Callable[[Path, Path, torch.device], State]


def configuration_in(folder: str | Path) -> JsonObject | None:
    """Return the configuration of the run that a folder holds, also of one that has no state yet; None without a run.

    Raises:
        CorruptFileError: a damaged file.
    """
    place = given_path("checkpoint", folder)
    for path, kind in ((place / _LATEST, _Latest), (place / _SCREENING, _Begun)):
        try:
            return read_as(kind, read_json(path), str(path))["config"]
        except FileNotFoundError:  # also if another run has just saved its first state
            pass
    return None


class Checkpoints(Generic[State]):
    """The checkpoints of one run in one folder.

    Args:
        folder: folder of the checkpoints; it is created if it does not exist.
        config: everything that decides the result of the optimisation; JSON values.
        files: functions that store and read the state of the method.
        answers: function that asks the classifier about fixed pictures. It is called once, and only if everything else
            matches, because a configuration does not cover all computations of a classifier.
        newer: keys of the configuration that checkpoints of earlier versions lack; they are compared where they are.
        asked: what the caller asked for where the configuration has what came of it, such as {"images_per_step":
            "auto"}; written beside the configuration, and not compared.

    Raises:
        StorageError: the folder cannot be created.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Json],
        files: StateFiles[State],
        answers: Callable[[], Answers],
        newer: Collection[str] = (),
        asked: Mapping[str, Json] | None = None,
    ) -> None:
        self.folder, self._files, self._ask, self._newer = given_path("checkpoint", folder), files, answers, newer
        self.config, self._asked = json.loads(json.dumps(config)), {"asked": {**asked}} if asked else {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.folder, "a folder for checkpoints", error) from error

    @cached_property
    def _answers(self) -> Answers:
        return self._ask()

    def save(self, state: State) -> None:
        """Write a checkpoint, then the list, then remove the files that the list no longer names.

        If several runs of one configuration share a folder, each adds its states; the newest two are kept.

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
        entries = self._listed()
        name = f"state-{1 + max((int(entry['name'].removeprefix('state-')) for entry in entries), default=0):06d}"
        self._files.write(state, self.folder / f"{name}.safetensors", self.folder / f"{name}.json")
        hashes = {suffix: sha256_file(self.folder / f"{name}.{suffix}") for suffix in ("safetensors", "json")}
        entries = [_Entry(name=name, sha256=hashes), *entries][:_KEPT]
        write_json_atomic(self.folder / _LATEST, self._run() | {"checkpoints": entries})
        (self.folder / _SCREENING).unlink(missing_ok=True)
        names = {entry["name"] for entry in entries}
        for path in self.folder.glob("state-*"):
            if path.name.split(".")[0] not in names:
                path.unlink(missing_ok=True)

    def load(self, device: torch.device) -> State | None:
        """Return the newest undamaged state on a device, or None if the folder holds no checkpoint.

        Raises:
            ValueError: the checkpoint belongs to another configuration; the message names the differences.
            CorruptFileError: every checkpoint is damaged, or the list has a name that no checkpoint has.
        """
        while True:
            entries = self._listed()
            try:
                return self._newest(entries, device) if entries else None
            except (CorruptFileError, FileNotFoundError):
                if self._listed() == entries:  # otherwise another run has replaced them since
                    raise

    def _newest(self, entries: list["_Entry"], device: torch.device) -> State:
        for entry in entries:
            files = {suffix: self.folder / f"{entry['name']}.{suffix}" for suffix in ("safetensors", "json")}
            if all(
                path.is_file() and sha256_file(path) == entry["sha256"].get(suffix) for suffix, path in files.items()
            ):
                return self._files.read(files["safetensors"], files["json"], device)
        raise CorruptFileError(
            describe("checkpoint", f"an undamaged checkpoint in {self.folder}", "only damaged files")
        )

    def scores(self) -> StoredScores:
        """Return the scores of an interrupted screening; added scores are stored until a state is.

        Raises:
            ValueError: the scores belong to another configuration; the message names the differences.
            CorruptFileError: the file of the scores is damaged.
        """
        path, scores = self.folder / _SCREENING, {}
        try:
            stored = read_scores(path)
            self._check_same(stored)
            scores = stored["scores"]
        except FileNotFoundError:  # also if another run has just saved its first state
            pass
        return StoredScores(path, self._run(), scores)

    def _run(self) -> JsonObject:
        return {"config": self.config, "answers": self._answers.values, **self._asked}

    def _listed(self) -> list["_Entry"]:
        path = self.folder / _LATEST
        if not path.exists():
            return []
        latest = read_as(_Latest, read_json(path), str(path))
        entries = latest["checkpoints"]
        if not all(_NAME.fullmatch(entry["name"]) for entry in entries):
            raise CorruptFileError(describe(str(path), "names of checkpoints, such as state-000001", entries))
        self._check_same(latest)
        return entries

    def _check_same(self, stored: Mapping[str, Json]) -> None:
        theirs = stored["config"]
        wanted = f"a run of the same configuration in {self.folder}"
        keys = theirs.keys() | (self.config.keys() - set(self._newer))
        differing = sorted(key for key in keys if theirs.get(key) != self.config.get(key))
        if differing:
            got = "; ".join(f"{key}: {theirs.get(key)!r}, not {self.config.get(key)!r}" for key in differing)
            raise AnotherRunError(describe("checkpoint", wanted, got))
        if not self._answers.agree(stored.get("answers")):
            got = "another: the classifier, its preprocess or the target answers the same pictures differently"
            raise AnotherRunError(describe("checkpoint", wanted, got))
