"""How an audit is kept: JSON, safetensors, PNG, and a manifest of sha256."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from PIL import Image

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.records import Json, JsonObject, as_json, read_as
from diffexplain_fast.result_folder import read_folder, write_folder
from diffexplain_fast.results.audit_checks import check_outcomes, check_pictures, check_settings, check_targets
from diffexplain_fast.results.audit_rows import AuditRow, FoundFeature, Interaction, Verdict
from diffexplain_fast.results.images import png_bytes, read_png
from diffexplain_fast.results.photographs import Photographs
from diffexplain_fast.storage import (
    MANIFEST,
    parse_json,
    parse_tensors,
    save_tensors_atomic,
    write_bytes_atomic,
    write_json_atomic,
    write_manifest,
)

_RECORD, _TENSORS, _FORMAT = "audit.json", "outcomes.safetensors", 1
_KINDS = {
    "classifier": str,
    "rows": list[AuditRow],
    "interactions": list[Interaction],
    "verdicts": dict[str, Verdict],
    "found": list[FoundFeature],
    "settings": JsonObject,
    "images": list[str],
    "photographs": Photographs | None,
}
_NEW: Mapping[str, Json] = {"found": [], "photographs": None}
"""What files of earlier versions lack."""


class AuditParts(TypedDict):
    """The fields of an audit."""

    classifier: str
    rows: list[AuditRow]
    interactions: list[Interaction]
    verdicts: dict[str, Verdict]
    settings: JsonObject
    images: list[Image.Image]
    found: list[FoundFeature]
    outcomes: dict[str, np.ndarray]
    photographs: Photographs | None


def write_audit(
    folder: Path, record: Mapping[str, Json], images: Sequence[Image.Image], outcomes: Mapping[str, np.ndarray]
) -> Path:
    """Write an audit into a folder, which appears whole or not at all.

    Args:
        folder: where to.
        record: the parts that JSON has.
        images: evidence pictures.
        outcomes: arrays of the trial.

    Returns:
        The folder.
    """
    names = [f"images/{i:03d}.png" for i in range(len(images))]
    stored = as_json({"format": _FORMAT, **record, "images": names}, "audit")

    def write(place: Path) -> None:
        for name, image in zip(names, images, strict=True):
            write_bytes_atomic(place / name, png_bytes(image))
        arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in outcomes.items()}
        save_tensors_atomic(place / _TENSORS, arrays)
        write_json_atomic(place / _RECORD, stored)
        write_manifest(place)

    return write_folder(folder, write)


def read_audit(folder: str | Path) -> AuditParts:
    """Return the parts of a saved audit.

    Args:
        folder: what ``write_audit`` wrote.

    Raises:
        CorruptFileError: a file is missing, damaged, or of another structure; names it.
        UnsafeFileError: a recorded path leaves the folder.
    """
    files = read_folder(folder)
    path = Path(folder) / _RECORD
    for name in (_RECORD, _TENSORS):
        if name not in files:
            raise CorruptFileError(describe(str(Path(folder) / MANIFEST), f"an entry for {name}", "none"))
    record = read_as(JsonObject, parse_json(files[_RECORD], path), str(path))
    if record.get("format") != _FORMAT:
        raise CorruptFileError(describe(str(path), f"format {_FORMAT}", record.get("format")))
    record = {**_NEW, **record}
    missing = sorted(_KINDS.keys() - record)
    if missing:
        raise CorruptFileError(describe(str(path), "the record of an audit", f"none of {', '.join(missing)}"))
    parts = {name: read_as(kind, record[name], f"{path}, {name}") for name, kind in _KINDS.items()}
    outcomes = {
        name: tensor.numpy() for name, tensor in parse_tensors(files[_TENSORS], Path(folder) / _TENSORS).items()
    }
    settings, verdicts = parts["settings"], parts["verdicts"]
    check_settings(settings, "values" in outcomes, f"{path}, settings")
    rows = [*parts["rows"], *parts["interactions"], *parts["found"]]
    check_targets(rows, verdicts, settings.get("targets"), str(path))
    check_pictures(verdicts, len(parts["images"]), str(path))
    check_outcomes(outcomes, settings, str(Path(folder) / _TENSORS))
    return AuditParts(
        classifier=parts["classifier"],
        rows=parts["rows"],
        interactions=parts["interactions"],
        verdicts=parts["verdicts"],
        settings=parts["settings"],
        found=parts["found"],
        images=[read_png(folder, name, files) for name in parts["images"]],
        outcomes=outcomes,
        photographs=parts["photographs"],
    )
