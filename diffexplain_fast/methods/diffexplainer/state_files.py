"""The two files of a state: tensors as safetensors, everything else as JSON; what is read is checked."""

import dataclasses
from pathlib import Path
from typing import get_type_hints

import torch

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.methods.diffexplainer.state import ADAM_KEYS, State, still_steps
from diffexplain_fast.records import JsonObject, read_as
from diffexplain_fast.runs.checkpoint import StateFiles
from diffexplain_fast.storage import load_tensors, read_json, save_tensors_atomic, write_json_atomic

_TENSORS = ("starts", "soft", "best")
_NOT_JSON = (*_TENSORS, "adam")
_NEW = {"spent", "words", "left_out", "named", "convinced", "convinced_each"}
"""Fields that states of earlier versions lack."""


def write_state(state: State, tensor_path: Path, value_path: Path) -> None:
    """Write a state.

    Raises:
        StorageError: no space or no permission.
    """
    tensors = {key: getattr(state, key).detach().cpu().clone() for key in _TENSORS}
    tensors |= {f"adam.{key}": value.detach().cpu().clone() for key, value in state.adam.items()}
    fields = (entry.name for entry in dataclasses.fields(state))
    values = {name: getattr(state, name) for name in fields if name not in _NOT_JSON}
    values["history"] = [dataclasses.asdict(item) for item in state.history]
    save_tensors_atomic(tensor_path, tensors)
    write_json_atomic(value_path, values)


def read_state(tensor_path: Path, value_path: Path, device: torch.device) -> State:
    """Return a state on a device.

    Raises:
        CorruptFileError: a file of another structure, or a state that no optimisation can be in; names what.
    """
    values = read_as(JsonObject, read_json(value_path), str(value_path))
    kinds = {key: kind for key, kind in get_type_hints(State, include_extras=True).items() if key not in _NOT_JSON}
    tensors = load_tensors(tensor_path)
    if values.keys() | _NEW != kinds.keys() or not tensors.keys() >= set(_TENSORS):
        found = ", ".join([*values, *tensors])
        raise CorruptFileError(describe(str(value_path), f"{', '.join(kinds)}, {', '.join(_TENSORS)}", found))
    values = {key: read_as(kinds[key], value, f"{value_path}, {key}") for key, value in values.items()}
    adam = {key.removeprefix("adam."): value for key, value in tensors.items() if key.startswith("adam.")}
    adam = {key: value if key == "step" else value.to(device) for key, value in adam.items()}
    values |= {key: tensors[key].to(device) for key in _TENSORS}
    state = State(adam=adam, **values)
    if "convinced" not in values:  # earlier states say it with the norm alone
        state.convinced = sum(item.gradient_norm == 0 for item in state.history)
    if "convinced_each" not in values:
        state.convinced_each = still_steps(state)
    if wrong := _wrong(state):
        raise CorruptFileError(describe(str(value_path), "the state of an optimisation", wrong))
    return state


def _wrong(state: State) -> str | None:
    """Return what of a state contradicts the rest, None if nothing does."""
    starts, moments = state.starts, {key: value for key, value in state.adam.items() if key != "step"}
    tokens = {"soft": state.soft, "best": state.best, **moments}
    if starts.ndim != 3 or len(starts) == 0 or any(part.shape != starts.shape[1:] for part in tokens.values()):
        return f"starts {list(starts.shape)}, {', '.join(f'{key} {list(part.shape)}' for key, part in tokens.items())}"
    if not all(part.is_floating_point() and part.isfinite().all() for part in (starts, *tokens.values())):
        return "soft tokens that are no finite numbers"
    if state.adam and (set(state.adam) != set(ADAM_KEYS) or state.adam["step"].numel() != 1):
        return f"adam of {', '.join(state.adam)}"
    tried = len(starts)
    if state.attempt > tried - (not state.finished) or state.best_attempt >= tried or tried > len(state.ranking):
        return (
            f"attempt {state.attempt}, best_attempt {state.best_attempt}, {tried} starts, {len(state.ranking)} ranked"
        )
    return None


STATE_FILES = StateFiles(write_state, read_state)
"""How an optimisation keeps its state; see ``Checkpoints``."""
