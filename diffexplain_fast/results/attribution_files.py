"""How an attribution is kept: JSON, and all pictures in one file of tensors."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import torch
from PIL import Image

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.records import Count, Json, JsonObject, Number, as_json, read_as
from diffexplain_fast.result_folder import read_folder
from diffexplain_fast.results.agreement import AuditAgreement
from diffexplain_fast.results.effects import Counterfactual, Edit, Effect, Interaction, Row
from diffexplain_fast.storage import parse_json, parse_tensors, save_tensors_atomic, write_json_atomic, write_manifest
from diffexplain_fast.taxonomy import Taxonomy

_RECORD, _TENSORS, _FORMAT = "attribution.json", "pictures.safetensors", 1
_GRADCAM = "gradcam"
_PLAIN = {
    "target": str,
    "label": str | None,
    "captions": list[str],
    "rows": list[Row],
    "effects": list[Effect],
    "interactions": list[Interaction],
    "placebos": dict[str, list[Number]],
    "errors": dict[str, list[Number]],
    "denoiser_rows": Count,
    "recognised": list[Count] | None,
    "audited": AuditAgreement | None,
    "shown": list[list[str]] | None,
    "settings": JsonObject,
}
"""Fields that are values of JSON, with their types."""
_LATER: JsonObject = {"errors": {}, "recognised": None, "audited": None, "shown": None}
"""Fields that files of earlier versions lack, with what they are then."""
_LATER_OF_EDITS: JsonObject = {"points": None, "flipped": None}
"""The same of an edit."""


class _Verified(TypedDict):
    verifier: str | None


class _Settings(_Verified, total=False):
    """The settings that are read again; earlier versions have the first only."""

    redraws_left_out: list[Count] | None
    not_compared: str


class Kept(Protocol):
    """What of an attribution is kept beside the plain fields; see ``Attribution``."""

    images: list[Image.Image]
    taxonomy: Taxonomy
    counterfactuals: list[Counterfactual | None]
    found: dict[int, list[Edit]]
    gradcam: np.ndarray | None


@dataclass
class _Edit:
    picture: Count
    verified: bool
    effect: Number
    concepts: list[str]
    points: Number | None
    flipped: bool | None


@dataclass
class _Counterfactual:
    picture: Count
    changes: list[str]
    before: str
    after: str
    flipped: bool
    probability_before: Number
    probability_after: Number


def as_record(result: Kept) -> JsonObject:
    """Return an attribution without its pictures as values of JSON."""
    edits = [(i, edit) for i, some in result.found.items() for edit in some]
    flips = [(i, one) for i, one in enumerate(result.counterfactuals) if one is not None]
    found = {"format": _FORMAT, "taxonomy": result.taxonomy.to_json()}
    found |= {name: _written(getattr(result, name)) for name in _PLAIN}
    found["edits"] = [_without_image(edit) | {"picture": i} for i, edit in edits]
    found["counterfactuals"] = [_without_image(one) | {"picture": i} for i, one in flips]
    plain: JsonObject = as_json(found, "attribution")
    return plain


def write_files(result: Kept, folder: Path) -> None:
    """Write an attribution into an empty folder."""
    pictures = {
        "images": result.images,
        "edits": [edit.image for edits in result.found.values() for edit in edits],
        "counterfactuals": [one.image for one in result.counterfactuals if one is not None],
    }
    tensors = {name: _stacked(images) for name, images in pictures.items() if images}
    if result.gradcam is not None:
        tensors[_GRADCAM] = torch.from_numpy(result.gradcam)
    save_tensors_atomic(folder / _TENSORS, tensors)
    write_json_atomic(folder / _RECORD, as_record(result))
    write_manifest(folder)


def read_files(folder: str | Path) -> dict[str, object]:
    """Return the fields of a saved attribution.

    Raises:
        CorruptFileError: a file is missing, damaged, or of another structure; names it.
    """
    files, path = read_folder(folder), Path(folder) / _RECORD
    for name in (_RECORD, _TENSORS):
        if name not in files:
            raise CorruptFileError(describe(str(Path(folder) / name), "a file that the manifest names", "none"))
    record = parse_json(files[_RECORD], path)
    tensors = parse_tensors(files[_TENSORS], Path(folder) / _TENSORS)
    try:
        if record["format"] != _FORMAT:
            raise CorruptFileError(describe(str(path), f"format {_FORMAT}", record["format"]))
        maps = tensors.pop(_GRADCAM, None)
        pictures = {name: _unstacked(values, f"{folder}, {name}") for name, values in tensors.items()}
        found = _fields(record, pictures, str(path))
        return found | {_GRADCAM: None if maps is None else _maps(maps, pictures["images"], f"{folder}, {_GRADCAM}")}
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CorruptFileError):
            raise
        raise CorruptFileError(describe(str(path), "the record of an attribution", repr(error))) from error


def _fields(record: JsonObject, pictures: dict[str, list[Image.Image]], place: str) -> dict[str, object]:
    found = {name: read_as(kind, (_LATER | record)[name], f"{place}, {name}") for name, kind in _PLAIN.items()}
    read_as(_Settings, found["settings"], f"{place}, settings")
    images = pictures["images"]
    for name in ("captions", "shown"):
        if found[name] is not None and len(found[name]) != len(images):
            wanted = f"{len(images)}, one for each picture"
            raise CorruptFileError(describe(f"{place}, {name}", wanted, len(found[name])))
    for row in found["rows"]:
        _known(row.image, images, f"{place}, rows")
    for number in found["recognised"] or []:
        _known(number, images, f"{place}, recognised")
    edits: dict[int, list[Edit]] = {i: [] for i in range(len(images))}
    kept = [_LATER_OF_EDITS | one if isinstance(one, dict) else one for one in record["edits"]]
    stored = read_as(list[_Edit], kept, f"{place}, edits")
    for one, image in zip(stored, pictures.get("edits", []), strict=True):
        edit = Edit(image, one.verified, one.effect, tuple(one.concepts), one.points, one.flipped)
        edits[_known(one.picture, images, place)].append(edit)
    flips: list[Counterfactual | None] = [None] * len(images)
    given = read_as(list[_Counterfactual], record["counterfactuals"], f"{place}, counterfactuals")
    for flip, image in zip(given, pictures.get("counterfactuals", []), strict=True):
        values = {field.name: getattr(flip, field.name) for field in fields(flip) if field.name != "picture"}
        values["changes"] = tuple(flip.changes)
        if flips[_known(flip.picture, images, place)] is not None:
            raise CorruptFileError(describe(place, "at most one counterfactual of a picture", f"two of {flip.picture}"))
        flips[flip.picture] = Counterfactual(image=image, **values)
    taxonomy = Taxonomy.from_json(record["taxonomy"])
    return {**found, "images": images, "taxonomy": taxonomy, "counterfactuals": flips, "found": edits}


def _known(number: int, images: Sequence[Image.Image], place: str) -> int:
    if number >= len(images):
        raise CorruptFileError(describe(place, f"a picture below {len(images)}", number))
    return number


def _written(value: object) -> Json:
    """Return a field, with a dataclass, and those in a list, as dicts."""
    if isinstance(value, AuditAgreement):
        return asdict(value)
    if isinstance(value, list):
        return [asdict(one) if hasattr(one, "__dataclass_fields__") else one for one in value]
    return value


def _without_image(value: Edit | Counterfactual) -> JsonObject:
    return {field.name: getattr(value, field.name) for field in fields(value) if field.name != "image"}


def _stacked(images: Sequence[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))


def _maps(values: torch.Tensor, images: Sequence[Image.Image], place: str) -> np.ndarray:
    wanted = [len(images), *images[0].size[::-1]]
    if values.dtype != torch.float32 or list(values.shape) != wanted or not bool(((values >= 0) & (values <= 1)).all()):
        got = f"{list(values.shape)}, {values.dtype}"
        raise CorruptFileError(describe(place, f"float32 from 0 to 1, {wanted}", got))
    found: np.ndarray = values.numpy()
    return found


def _unstacked(values: torch.Tensor, place: str) -> list[Image.Image]:
    if values.dtype != torch.uint8 or values.ndim != 4 or values.shape[-1] != 3 or values.numel() == 0:
        raise CorruptFileError(describe(place, "uint8 pictures [B, H, W, 3]", f"{list(values.shape)}, {values.dtype}"))
    return [Image.fromarray(value.numpy()) for value in values]
