"""Several processes of one command, as torchrun and ``accelerate launch`` start them: each target is run by one."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

from diffexplain_fast.environment import ranks
from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.records import Json, read_as
from diffexplain_fast.runs.shared_units import SharedUnits
from diffexplain_fast.storage import parse_json


class _Done(TypedDict):
    """What is kept of a target that is done: its text, and its folder inside of the command's."""

    target: str
    folder: str


def are_several() -> bool:
    """Return whether this process is one of several ranks."""
    return ranks().processes > 1


def is_first() -> bool:
    """Return whether this process writes what all ranks have found: the only process, or the first of several."""
    return ranks().rank == 0


def left_to_first() -> bool:
    """Return whether another rank writes the results, and say so: the variables may be left from another run."""
    if is_first():
        return False
    here = ranks()
    print(f"rank {here.rank} of {here.processes} (RANK, WORLD_SIZE): done, rank 0 writes the report", file=sys.stderr)
    return True


def divide(
    run: Callable[[str, Path], object],
    is_there: Callable[[str, Path], bool],
    targets: Mapping[str, Path],
    out: Path,
    settings: dict[str, Json],
) -> dict[str, Path]:
    """Run every target in one of the ranks, and wait until all are done.

    A rank takes the next target that no other has taken, so that a fast one takes more. A target that an earlier call
    with the same settings has done is not run again where its result is still there.

    Args:
        run: receives a target and its folder, and saves there what it finds.
        is_there: receives a target and a folder; says whether the folder holds its result.
        targets: with their folders, for those that no earlier call has done.
        out: folder that all ranks see; the targets' folders are it or lie in it.
        settings: everything that decides a result beside its target.

    Returns:
        The folder of each target. A target that is done keeps the folder of the call that did it.

    Raises:
        ValueError: the folder holds results of other settings; names what differs.
        StorageError: the folder cannot be written.
    """
    done = SharedUnits(out / "ranks", settings, ".done")
    keys = {text: hashlib.sha256(text.encode()).hexdigest()[:40] for text in targets}
    texts = {key: text for text, key in keys.items()}
    places = _places(done, keys, is_there, targets, out)

    def make(key: str) -> bytes:
        text = texts[key]
        run(text, places[text])
        return json.dumps({"target": text, "folder": places[text].relative_to(out).as_posix()}).encode()

    done.complete([*texts], make)
    recorded = _recorded(done)  # another rank may have begun with other folders
    return {text: out / recorded[text] if text in recorded else places[text] for text in targets}


def _places(
    done: SharedUnits,
    keys: Mapping[str, str],
    is_there: Callable[[str, Path], bool],
    targets: Mapping[str, Path],
    out: Path,
) -> dict[str, Path]:
    """Return the folders of targets, and forget that a target is done where its result is not there."""
    recorded, places = _recorded(done), dict[str, Path]()
    for text, folder in targets.items():
        earlier, unit = out / recorded[text] if text in recorded else folder, done.path(keys[text])
        if unit.exists():
            if is_there(text, earlier):
                places[text] = earlier
                continue
            unit.unlink(missing_ok=True)
        name = folder.relative_to(out).as_posix()
        taken = {place for other, place in recorded.items() if other != text}
        places[text] = out / f"{'target' if name == '.' else name}~{keys[text][:8]}" if name in taken else folder
    return places


def _recorded(done: SharedUnits) -> dict[str, str]:
    """Return the folder, inside of the command's, of each target that is done, also of those of other calls."""
    found: dict[str, str] = {}
    for path in done.folder.glob("*.done"):
        try:
            kept = read_as(_Done, parse_json(path.read_bytes(), path), str(path))
        except (OSError, CorruptFileError):  # a version before this one wrote the target alone
            continue
        if not Path(kept["folder"]).is_absolute() and ".." not in Path(kept["folder"]).parts:
            found[kept["target"]] = kept["folder"]
    return found
