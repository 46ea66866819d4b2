"""Several processes of one command, as torchrun and ``accelerate launch`` start them: each target is run by one."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from diffexplain_fast.environment import ranks
from diffexplain_fast.records import Json
from diffexplain_fast.runs.shared_units import SharedUnits


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
    run: Callable[[str, Path], object], targets: Mapping[str, Path], out: Path, settings: dict[str, Json]
) -> None:
    """Run every target in one of the ranks, and wait until all are done.

    A rank takes the next target that no other has taken, so that a fast one takes more. A target that an earlier call
    with the same settings has done is not run again.

    Args:
        run: receives a target and its folder, and saves there what it finds.
        targets: with their folders.
        out: folder that all ranks see.
        settings: everything that decides a result beside its target.

    Raises:
        ValueError: the folder holds results of other settings; names what differs.
        StorageError: the folder cannot be written.
    """
    units = {hashlib.sha256(text.encode()).hexdigest()[:40]: text for text in targets}

    def make(key: str) -> bytes:
        text = units[key]
        run(text, targets[text])
        return text.encode()

    SharedUnits(out / "ranks", settings, ".done").complete(list(units), make)
