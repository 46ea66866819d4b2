"""Checkpoints of an optimisation: a run that is interrupted, even by kill -9, resumes to the same bits.

A checkpoint is ``state-<n>.safetensors`` and ``state-<n>.json``; LATEST.json, written last and atomically, lists the
two newest with their sha256. So a crash at any moment leaves a list whose files are complete, and a newest checkpoint
that is damaged later falls back to the older one.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.methods.descent import State
from diffexplain_fast.methods.identity import Answers
from diffexplain_fast.results import Iteration
from diffexplain_fast.storage import (
    load_tensors,
    read_json,
    save_tensors_atomic,
    sha256_file,
    storage_error,
    write_json_atomic,
)

_LATEST = "LATEST.json"
_KEPT = 2
_NAME = re.compile(r"state-\d{6,}")
_TENSORS = ("starts", "soft", "best")


class Checkpoints:
    """The checkpoints of one run in one folder.

    Args:
        folder: created if it does not exist.
        config: everything that decides the result of the optimisation; JSON values.
        answers: what the classifier says about fixed pictures: a configuration does not see all that it computes.

    Raises:
        StorageError: the folder cannot be created.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any], answers: Answers) -> None:
        self.folder, self.answers = Path(folder), answers
        self.config = json.loads(json.dumps(config))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.folder, "a folder for checkpoints", error) from error

    def save(self, state: State) -> None:
        """Write a checkpoint, then the list, then remove what the list no longer names.

        Raises:
            StorageError: no space or no permission; the earlier checkpoints are intact.
        """
        kept = self._listed()
        name = f"state-{1 + max((int(entry['name'].removeprefix('state-')) for entry in kept), default=0):06d}"
        tensors = {key: getattr(state, key).detach().cpu().clone() for key in _TENSORS}
        tensors |= {f"adam.{key}": value.detach().cpu().clone() for key, value in state.adam.items()}
        values = {
            entry.name: getattr(state, entry.name)
            for entry in dataclasses.fields(state)
            if entry.name not in (*_TENSORS, "adam", "history")
        }
        values["history"] = [dataclasses.asdict(item) for item in state.history]
        save_tensors_atomic(self.folder / f"{name}.safetensors", tensors)
        write_json_atomic(self.folder / f"{name}.json", values)
        hashes = {suffix: sha256_file(self.folder / f"{name}.{suffix}") for suffix in ("safetensors", "json")}
        kept = [{"name": name, "sha256": hashes}, *kept][:_KEPT]
        latest = {"config": self.config, "answers": self.answers.values, "checkpoints": kept}
        write_json_atomic(self.folder / _LATEST, latest)
        names = {entry["name"] for entry in kept}
        for path in self.folder.glob("state-*"):
            if path.name.split(".")[0] not in names:
                path.unlink(missing_ok=True)

    def load(self, device: torch.device) -> State | None:
        """Return the newest undamaged state on a device, or None if the folder holds no checkpoint.

        Raises:
            ValueError: the checkpoint belongs to another configuration; names what differs.
            CorruptFileError: every checkpoint is damaged.
        """
        kept = self._listed()
        if not kept:
            return None
        for entry in kept:
            files = {suffix: self.folder / f"{entry['name']}.{suffix}" for suffix in ("safetensors", "json")}
            if all(path.is_file() and sha256_file(path) == entry["sha256"][suffix] for suffix, path in files.items()):
                return _read_state(files["safetensors"], files["json"], device)
        raise CorruptFileError(
            describe("checkpoint", f"an undamaged checkpoint in {self.folder}", "damaged files alone")
        )

    def _listed(self) -> list[dict[str, Any]]:
        path = self.folder / _LATEST
        if not path.exists():
            return []
        latest = read_json(path)
        try:
            theirs, kept = dict(latest["config"]), list(latest["checkpoints"])
            same = self.answers.agree(latest.get("answers", ()))
            if not all(_NAME.fullmatch(entry["name"]) for entry in kept):
                raise ValueError("a name that is none of ours")
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(
                describe(str(path), "the list of checkpoints", f"a damaged file ({error})")
            ) from error
        wanted = f"a run of the same configuration in {self.folder}"
        differing = sorted(key for key in theirs.keys() | self.config if theirs.get(key) != self.config.get(key))
        if differing:
            found = "; ".join(f"{key}: {theirs.get(key)!r}, not {self.config.get(key)!r}" for key in differing)
            raise ValueError(describe("checkpoint", wanted, found))
        if not same:
            found = "another: the classifier, its preprocess or the target answers the same pictures otherwise"
            raise ValueError(describe("checkpoint", wanted, found))
        return kept


def _read_state(tensor_path: Path, value_path: Path, device: torch.device) -> State:
    tensors = load_tensors(tensor_path)
    values = read_json(value_path)
    values["history"] = [Iteration(**item) for item in values["history"]]
    values["best_score"] = tuple(values["best_score"])
    adam = {key.removeprefix("adam."): value for key, value in tensors.items() if key.startswith("adam.")}
    adam = {key: value if key == "step" else value.to(device) for key, value in adam.items()}
    values |= {key: tensors[key].to(device) for key in _TENSORS}
    return State(adam=adam, **values)
