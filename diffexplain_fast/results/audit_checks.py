"""Whether the parts of a saved audit fit each other, as far as its page, its decisions and differences need it."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, get_args

import numpy as np

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.records import Count, JsonObject, Magnitude, Number, Share, read_as
from diffexplain_fast.results.audit_rows import AuditRow, FoundFeature, Interaction, Verdict
from diffexplain_fast.results.decision import Decision
from diffexplain_fast.stats.decisions import Control


class _Concepts(TypedDict):
    groups: dict[str, list[str]]
    words: list[str]


class _Settings(TypedDict, total=False):
    """The settings that are read again, each where it is there."""

    pictures: Count
    own_pictures: Count | None
    pictures_used: Count
    minimal_effect: Magnitude
    level: Share
    control: str
    output: str
    seed: int
    eye: str | None
    targets: list[str]
    concepts: _Concepts
    pictures_beside: dict[str, Count] | None
    effective_pictures: Number | None
    decisions: list[Decision]
    difference: tuple[JsonObject, JsonObject]
    asking_only: list[str]
    showing: list[str]


_OF_DRAWN = ("minimal_effect", "level", "eye")
_OF_TRIAL = ("pictures_used", "targets", "concepts", "seed")
"""Settings without which a difference of two audits cannot be told."""


def check_settings(settings: JsonObject, has_trial: bool, place: str) -> None:
    """Refuse settings that no audit has.

    Args:
        settings: of an audit.
        has_trial: whether the arrays of a trial are kept beside them.
        place: the file and the key, for the message.

    Raises:
        CorruptFileError: a setting is missing or of another kind; names it.
    """
    _check_kinds(settings, place)
    for i, one in enumerate(settings.get("difference", ())):
        _check_kinds(one, f"{place}, difference, {i}")
    needed = [*_OF_TRIAL] if has_trial else []
    if settings.get("pictures") == 0:
        needed += ["own_pictures"]
    elif has_trial or "pictures_used" in settings:
        needed += _OF_DRAWN
    for name in needed:
        if name not in settings:
            raise CorruptFileError(describe(place, f"a value for {name}", "none"))


def _check_kinds(settings: JsonObject, place: str) -> None:
    read_as(_Settings, settings, place)
    if "control" in settings and settings["control"] not in get_args(Control):
        wanted = " or ".join(map(repr, get_args(Control)))
        raise CorruptFileError(describe(f"{place}, control", wanted, repr(settings["control"])))


def check_targets(
    rows: Sequence[AuditRow | Interaction | FoundFeature], verdicts: Mapping[str, Verdict], known: object, place: str
) -> None:
    """Refuse rows and verdicts of targets that the settings do not name.

    Args:
        rows: of the audit, of all kinds.
        verdicts: target to its verdict.
        known: the targets in the settings; None where they name none.
        place: the file, for the message.

    Raises:
        CorruptFileError: another target; names it.
    """
    if not isinstance(known, list):
        return
    for name in (*(row.target for row in rows), *verdicts):
        if name not in known:
            raise CorruptFileError(describe(f"{place}, rows and verdicts", "targets of settings, targets", repr(name)))


def check_pictures(verdicts: Mapping[str, Verdict], pictures: int, place: str) -> None:
    """Refuse verdicts with pictures that are not there, or that show a concept which has no name.

    Args:
        verdicts: target to its verdict.
        pictures: how many the audit has.
        place: the file, for the message.

    Raises:
        CorruptFileError: such a verdict; names its target.
    """
    for target, verdict in verdicts.items():
        where = f"{place}, verdicts, {target}"
        if any(number >= pictures for number in verdict.pictures):
            wanted = f"numbers below {pictures}, of the images that are there"
            raise CorruptFileError(describe(f"{where}, pictures", wanted, verdict.pictures))
        if verdict.pictures and not verdict.concepts:
            raise CorruptFileError(describe(f"{where}, concepts", "the concept that its pictures show", "none"))


def check_outcomes(outcomes: Mapping[str, np.ndarray], settings: JsonObject, place: str) -> None:
    """Refuse the arrays of a trial that do not fit each other, the targets, or the concepts.

    Args:
        outcomes: see ``Audit``; those without "values" are of no trial.
        settings: of the audit, checked.
        place: the file, for the message.

    Raises:
        CorruptFileError: an array is missing or of another shape; names it.
    """
    if "values" not in outcomes:
        return
    concepts = settings["concepts"]
    sizes = [len(values) for values in concepts["groups"].values()]
    columns, pictures = len(sizes) + len(concepts["words"]), len(outcomes["values"])
    shapes = {"design": (pictures, columns), "values": (pictures, len(settings["targets"])), "levels": (columns,)}
    shapes |= {"groups": (1,)} | ({"weights": (pictures,)} if "weights" in outcomes else {})
    for name in {"seen", "shown"} & outcomes.keys():
        shapes[name] = (pictures, sum(sizes) + len(concepts["words"]))
    for name, shape in shapes.items():
        found = outcomes.get(name)
        if found is None or found.shape != shape:
            got = "none" if found is None else list(found.shape)
            raise CorruptFileError(describe(f"{place}, {name}", f"an array {list(shape)}", got))
    levels = [*sizes, *[2] * len(concepts["words"])]
    if outcomes["levels"].tolist() != levels or outcomes["groups"].tolist() != [len(sizes)]:
        raise CorruptFileError(describe(f"{place}, levels and groups", f"those of the concepts, {levels}", "others"))
    if bool(((outcomes["design"] < -1) | (outcomes["design"] >= outcomes["levels"])).any()):
        raise CorruptFileError(describe(f"{place}, design", f"numbers from -1 to below {levels}", "others"))
