"""The rules of imports: ranks, circles, doors, faces, and methods that do not know one another."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.house import ANY, DOORS, FACES, LAZY, LAZY_DOOR, PACKAGE, RANKS
from tests.architecture.source import Arrow, arrows, called, floor_of, package_files, room_of


def upward_imports(root: Path) -> list[str]:
    """Return imports that point up, rooms without a rank, and imports that no reader of the file can follow."""
    files = package_files(root)
    strange = {path: room for path in files if path not in FACES and (room := floor_of(path)) not in RANKS}
    found = [f"{path}: room {room} has no rank" for path, room in strange.items()]
    for arrow in arrows(root):
        room, target = floor_of(arrow.source), arrow.module.split(".")[0]
        if arrow.source in FACES or arrow.source in strange or target == room or is_lazy_door(arrow):
            continue
        if target not in RANKS:
            found.append(f"{_place(arrow)} imports {arrow.module or 'the package root'}, which has no rank")
        elif RANKS[target] > RANKS[room]:
            found.append(f"{_place(arrow)} {room} (rank {RANKS[room]}) imports {arrow.module} (rank {RANKS[target]})")
    for path, tree in files.items():
        if path not in (*FACES, LAZY):
            found += [f"{path}:{node.lineno}: {called(node)} hides an import" for node in _hidden_imports(tree)]
    return found


def circular_imports(root: Path) -> list[str]:
    """Return one circle of files for each group of files that import one another, lazily or not.

    Imports that only a type checker reads do not count, nor do the faces and the lazy door. The first import from a
    package also runs its ``__init__.py``, which counts for files outside of that package.
    """
    files = package_files(root)
    graph: dict[str, list[str]] = {path: [] for path in files if path not in FACES}
    for arrow in arrows(root):
        if arrow.source in graph and not arrow.typing and not is_lazy_door(arrow):
            graph[arrow.source] += [path for path in (arrow.target, *_packages_run(arrow)) if path in graph]
    found, seen = [], set[str]()
    for start in graph:
        circle = [] if start in seen else _way(graph, start, start)
        if circle:
            seen |= {path for path in graph if _way(graph, start, path) and _way(graph, path, start)}
            found.append(" -> ".join([start, *circle]))
    return found


def closed_doors(root: Path) -> list[str]:
    """Return imports from another room that do not go through one of its doors."""
    found = []
    for arrow in arrows(root):
        room = room_of(arrow.target)
        own_door = arrow.target.removesuffix(".py") == room
        if room == room_of(arrow.source) or own_door or arrow.target in FACES or floor_of(room) not in RANKS:
            continue
        doors = DOORS.get(room, {})
        file = arrow.target.removesuffix(".py").removeprefix(f"{room}/")
        if file not in doors:
            found.append(
                f"{_place(arrow)} imports {arrow.module}; the doors of {room} are {', '.join(doors) or 'none'}"
            )
        elif doors[file] != ANY and not {room_of(arrow.source), floor_of(arrow.source)} & set(doors[file].split()):
            found.append(f"{_place(arrow)} imports {arrow.module}, a door of {room} for {doors[file]} only")
    return found


def unused_doors(root: Path) -> list[str]:
    """Return listed doors through which nothing is imported, or whose file does not exist."""
    used = {arrow.target for arrow in arrows(root) if room_of(arrow.source) != room_of(arrow.target)}
    listed = [f"{room}/{file}.py" for room, doors in DOORS.items() for file in doors]
    return [f"{path}: a door that no other room uses" for path in listed if path not in used]


def imported_faces(root: Path) -> list[str]:
    """Return imports of files that publish names to users, by files inside the package."""
    inside = [arrow for arrow in arrows(root) if arrow.source not in FACES and arrow.target in FACES]
    return [f"{_place(arrow)} imports {arrow.target}, a face; import the file that has the name" for arrow in inside]


def methods_that_meet(root: Path) -> list[str]:
    """Return imports of one method by another; code that methods share lies in a room below, and ``api`` joins them."""
    found = []
    for arrow in arrows(root):
        own, other = (path.removesuffix(".py").split("/")[:2] for path in (arrow.source, arrow.target))
        if own[0] == other[0] == "methods" and own != other:
            found.append(f"{_place(arrow)} imports {arrow.module}, of another method")
    return found


def is_lazy_door(arrow: Arrow) -> bool:
    """Return whether an import is the only one that may point up, because it runs inside a function."""
    return arrow.lazy and (arrow.source, arrow.target.removesuffix(".py") + ".py") == LAZY_DOOR


def _place(arrow: Arrow) -> str:
    return f"{arrow.source}:{arrow.line}:"


def _hidden_imports(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            text = ast.unparse(node)
            if any(word in text for word in (PACKAGE, "__name__", "__package__", "'.")):
                yield node


def _packages_run(arrow: Arrow) -> list[str]:
    """Return the ``__init__.py`` of every package that an import runs first, unless the importing file is in it."""
    folders = arrow.target.split("/")[:-1]
    packages = ["/".join(folders[: i + 1]) for i in range(len(folders))]
    return [f"{folder}/__init__.py" for folder in packages if not arrow.source.startswith(f"{folder}/")]


def _way(graph: dict[str, list[str]], start: str, end: str) -> list[str]:
    """Return a shortest way of at least one arrow from a file to another, without the start; empty if there is none."""
    ways: dict[str, list[str]] = {target: [target] for target in graph[start]}
    left = list(ways)
    for path in left:
        if path == end:
            return ways[path]
        for target in graph[path]:
            if target not in ways:
                ways[target] = [*ways[path], target]
                left.append(target)
    return []
