"""Planted classifiers that were made before, kept under a hash of all that decides them.

They lie in the user's cache folder; the demo's ships with the package, so that a first run need not train it:
``python -m diffexplain_fast.recipe.kept`` makes it again, as a test demands when the code that decides it has changed.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from diffexplain_fast.environment import cache_folder, versions
from diffexplain_fast.errors import CorruptFileError, UnsafeFileError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe import planting
from diffexplain_fast.recipe import truth as truths
from diffexplain_fast.recipe.architectures import build_model
from diffexplain_fast.recipe.made import Answers
from diffexplain_fast.recipe.planting import Planted, train_planted
from diffexplain_fast.recipe.shifts import CommonShift
from diffexplain_fast.recipe.shortcuts import DEMO, Cue, checked_shortcuts
from diffexplain_fast.recipe.surroundings import on_one_thread, usual_settings
from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.runs.progress import Progress, counter
from diffexplain_fast.storage import (
    MANIFEST,
    check_manifest,
    load_tensors,
    read_json,
    save_tensors_atomic,
    sha256_file,
    write_json_atomic,
    write_manifest,
)
from diffexplain_fast.targets.outputs import SOFTMAX
from diffexplain_fast.tinyworld.words import OBJECTS

log = logging.getLogger(__name__)
_ROOM = Path(__file__).parent
_CODE = (
    *(_ROOM / f"{name}.py" for name in ("architectures", "classifiers", "data", "levels", "planting", "rows")),
    *(_ROOM / f"{name}.py" for name in ("shortcuts", "surroundings", "training", "truth")),
    *(_ROOM.parent / "tinyworld" / f"{name}.py" for name in ("words", "grammar", "render", "shapes")),
    *(_ROOM.parent / "tinyworld" / f"{name}.py" for name in ("backgrounds", "overlays")),
)
"""Files whose content decides what a classifier learns and what its truth says."""
_COUNTS_AS: Mapping[str, tuple[str, str]] = {
    "grammar.py": ("b709565fc11488b6", "0426768a648407525148e798b16b6fbd792004ac46390e78f721bd75ed6e10c6"),
    "levels.py": ("542ba58f63669de7", "af16838bddbca61baada045bb6a5a841ac55157fa8355890690253865f03ba8b"),
    "truth.py": ("b7f9a80d33fb1cbf", "8be0ac9bbb785b0c300ddbd0b7be129613056715d20c519b809a106de6e8e6e9"),
}
"""File of the code to the first 16 digits of its present sha256, and the sha256 of an older content that gives the same
networks and truths bit for bit; what was made by that is read. A truth that the change does affect has a further entry
in its key, see ``_further``. Another change of such a file makes everything again, unless it is entered here."""
_LIBRARIES = ("torch", "transformers", "numpy")
SHIPPED = _ROOM.parent / "tinyworld" / "planted"
"""Folder of the classifiers that ship; they are of the present code, whatever libraries are installed."""


_BROKEN = (CorruptFileError, UnsafeFileError, OSError, RuntimeError)
"""What reading a damaged folder raises; the last, where the tensors are those of another network."""


def made(
    planted: Planted,
    output: str,
    callback: Callable[[Progress], None] | None = None,
    shift: CommonShift | None = None,
) -> tuple[nn.Module, JsonObject]:
    """Return a planted network and its truth, from the cache folder if they were made before.

    A network is trained once for all truths of it that are measured on other scenes, or with a shift.

    Args:
        planted: what the network relies on.
        output: on what scale the truth is: "softmax", "sigmoid" or "regression".
        callback: receives a ``Progress`` of the training and of the truth.
        shift: what is added to all outputs when the truth is measured, None for nothing; the network is without it.
    """
    root, further = cache_folder() / "planted", _further(planted, shift)
    folder, plain = root / _key(planted, output, further), [root / _key(planted, output), shipped(planted, output)]
    found = _first(planted, [folder] if further else plain)
    if found is not None:
        return found
    trained = _first(planted, plain) if further else None
    if trained is None:
        net = train_planted(planted, planting.plan_of(planted), planting.SCENES, counter(callback, "train"))
    else:
        net, _ = trained
    truth = _measured(net, planted, output, callback, shift)
    try:
        _keep(planted, folder, net, truth)
    except OSError as error:
        log.warning("not kept: %s", error)
    return net, truth


def _first(planted: Planted, folders: Sequence[Path]) -> tuple[nn.Module, JsonObject] | None:
    """Return the network and the truth of the first folder that holds whole ones."""
    for folder in folders:
        try:
            if (folder / MANIFEST).exists():
                return _read(planted, folder)
        except _BROKEN as error:
            log.warning("made again: %s", error)
    return None


def shipped(planted: Planted, output: str) -> Path:
    """Return the folder of a planted network in the package, whether or not it ships."""
    return SHIPPED / _key(planted, output, {}, libraries=())[:16]


def ship() -> None:
    """Make the demo's classifier again, with weights in half precision and the truth of these, and put it in place."""
    planted = Planted(checked_shortcuts(DEMO), 1.0, 0, "cnn", False, {})
    net = train_planted(planted, planting.plan_of(planted), planting.SCENES).half().float()
    truth = _measured(net, planted, SOFTMAX, None)
    shutil.rmtree(SHIPPED, ignore_errors=True)
    _write(shipped(planted, SOFTMAX), net.half(), truth)


@usual_settings()
@on_one_thread()
def _measured(
    net: nn.Module,
    planted: Planted,
    output: str,
    callback: Callable[[Progress], None] | None,
    shift: CommonShift | None = None,
) -> JsonObject:
    model = net if shift is None else Answers(net, output, shift)
    classifier, report = Classifier(model, labels=OBJECTS, output=output), counter(callback, "measure")
    return truths.measure_truth(classifier, torch.device("cpu"), truths.SEEDS, planted.cues, report)


def _keep(planted: Planted, folder: Path, net: nn.Module, truth: JsonObject) -> None:
    """Write a folder under another name and rename it, so that other processes see a whole one or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder.parent) as beside:
        new = Path(beside) / "new"
        _write(new, net, truth)
        try:
            os.rename(new, folder)
        except OSError:
            if not folder.is_dir():
                raise
            try:
                _read(planted, folder)  # another process was faster
            except _BROKEN:
                os.rename(folder, Path(beside) / "damaged")
                os.rename(new, folder)


def _write(folder: Path, net: nn.Module, truth: JsonObject) -> None:
    save_tensors_atomic(folder / "model.safetensors", {k: v.contiguous() for k, v in net.state_dict().items()})
    write_json_atomic(folder / "truth.json", truth)
    write_manifest(folder)


def described(cues: Mapping[str, Cue]) -> JsonObject:
    """Return cues as JSON values: class to ``{"every": whether all are needed, "values": {attribute: value}}``."""
    return {label: {"every": cue.every, "values": dict(cue.values)} for label, cue in cues.items()}


@usual_settings()
def _read(planted: Planted, folder: Path) -> tuple[nn.Module, JsonObject]:
    check_manifest(folder)
    net = build_model(planted.model, list(OBJECTS)).eval()
    net.load_state_dict(load_tensors(folder / "model.safetensors"))
    truth: JsonObject = read_json(folder / "truth.json")
    return net, truth


def _further(planted: Planted, shift: CommonShift | None) -> JsonObject:
    """What else decides a truth than what decides the network: an entry for all that was not so in older versions."""
    found: JsonObject = {} if shift is None else {"common shift": shift.described()}
    if truths.has_own_population(planted.cues):
        found["population"] = "parts of all_of are frequent"
    return found


def _key(
    planted: Planted, output: str, further: JsonObject | None = None, libraries: Sequence[str] = _LIBRARIES
) -> str:
    """The sha256 of everything that decides a network and its truth, with the versions of some libraries."""
    found: dict[str, Json] = planted._asdict() | {"cues": described(planted.cues), "output": output}
    found |= {
        "against": described(planted.against),
        "plan": planting.plan_of(planted)._asdict(),
        "scenes": planting.SCENES,
    }
    found |= {"seeds": str(truths.SEEDS), "code": {path.name: _content(path) for path in _CODE}}
    found |= {"versions": {name: version for name, version in versions().items() if name in libraries}}
    return hashlib.sha256(json.dumps(found | (further or {}), sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> str:
    """The sha256 of a file, or that of the older content that it counts as."""
    present = sha256_file(path)
    begins, older = _COUNTS_AS.get(path.name, (present, present))
    return older if present.startswith(begins) else present


if __name__ == "__main__":
    ship()
