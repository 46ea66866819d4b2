"""``python -m tests.architecture``: the house in figures, and every broken rule; the exit code is 1 if there is one."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.architecture import RULES
from tests.architecture.annotations import any_by_room
from tests.architecture.house import ANY_IN_ANNOTATIONS, DOORS, FACES, RANKS
from tests.architecture.imports import circular_imports, closed_doors, is_lazy_door, unused_doors, upward_imports
from tests.architecture.source import arrows, floor_of, package_files, room_of

ROOT = Path(__file__).parents[2]
_OUTSIDE = ("ops", "kernels", "csrc")
"""Rooms of the kernels, whose lines are counted separately and without a limit."""


def lines_by_room(root: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the Python files and the lines of every room; the package's own ``__init__.py`` is the room "."."""
    files, lines = Counter[str](), Counter[str]()
    for path in package_files(root):
        kernel = path.startswith("kernels/")
        place = root / "kernels/fused" / path.removeprefix("kernels/") if kernel else root / "diffexplain_fast" / path
        room = "." if path == "__init__.py" else room_of(path)
        files[room] += 1
        lines[room] += len(place.read_text(encoding="utf-8").splitlines())
    return files, lines


def description(root: Path) -> Iterator[str]:
    """Yield the lines of the report: rooms with their arrows, then circles, arrows upward, doors, Any and sizes."""
    files, lines = lines_by_room(root)
    told = any_by_room(root)
    drawn = arrows(root)
    between = Counter((room_of(a.source), room_of(a.target)) for a in drawn if a.source not in FACES)
    yield f"{'rank':>4}  {'room':<22}{'files':>5} {'lines':>6} {'Any':>4}  imports from other rooms"
    for room in sorted(lines, key=lambda room: (-RANKS.get(floor_of(room), -1), room)):
        out = [f"{other} {count}" for (source, other), count in sorted(between.items()) if source == room != other]
        rank = RANKS.get(floor_of(room), "-")
        yield f"{rank:>4}  {room:<22}{files[room]:>5} {lines[room]:>6} {told[room]:>4}  {', '.join(out)}".rstrip()
    yield ""
    circles, upward, broken = circular_imports(root), upward_imports(root), closed_doors(root)
    lazy = sum(is_lazy_door(arrow) for arrow in drawn)
    yield f"circles of files: {len(circles)}"
    yield f"arrows upward: {len(upward)}, and {lazy} through the one lazy door"
    doors = sum(len(files) for files in DOORS.values())
    yield f"doors: {doors} listed, {len(unused_doors(root))} unused; {len(broken)} imports past a door"
    yield f"Any in annotations: {told.total()} of at most {ANY_IN_ANNOTATIONS}"
    inside = sum(count for room, count in lines.items() if room not in _OUTSIDE)
    yield f"lines of Python: {sum(lines.values())}, outside {', '.join(_OUTSIDE)}: {inside}"


def main() -> int:
    """Print the report and all violations of rules; return the exit code."""
    print("\n".join(description(ROOT)))
    broken = [f"{rule.__name__}: {line}" for rule in RULES for line in rule(ROOT)]
    print(f"rules: {len(RULES)}, broken at {len(broken)} places", *broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
