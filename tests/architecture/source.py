"""The source tree as data: files, and the arrows that their imports draw between them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.architecture.house import FLOORS, PACKAGE

Scope = ast.FunctionDef | ast.AsyncFunctionDef


class Arrow(NamedTuple):
    """An import of something of the package.

    Attributes:
        source: importing file, relative to the package; kernels have the path at which they are installed.
        target: imported file, or the name of the module with slashes where no such file exists.
        module: dotted name of the target relative to the package; empty for the package itself.
        lazy: True if the import is inside a function.
        typing: True if only a type checker reads the import.
        line: line of the import.
    """

    source: str
    target: str
    module: str
    lazy: bool
    typing: bool
    line: int


def sources(root: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield path relative to ``root`` and syntax tree of Python files, given by their folders or by themselves."""
    for folder in folders:
        place = root / folder
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            yield path.relative_to(root).as_posix(), _parsed(path, path.read_text(encoding="utf-8"))


@cache
def _parsed(path: Path, text: str) -> ast.Module:
    return ast.parse(text, path.name)


def package_files(root: Path) -> dict[str, ast.Module]:
    """Return the package's files by their path relative to the package, with the kernels."""
    files = {path.removeprefix(f"{PACKAGE}/"): tree for path, tree in sources(root, PACKAGE)}
    return files | {path.replace("kernels/fused", "kernels", 1): tree for path, tree in sources(root, "kernels/fused")}


def called(node: ast.Call) -> str:
    """Return the last name of a called expression: ``load`` for ``torch.load(...)``."""
    return last_name(node.func)


def last_name(node: ast.AST) -> str:
    """Return ``b`` for ``b``, ``a.b`` and ``a["b"]``, and an empty string for other expressions."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def room_of(path: str) -> str:
    """Return the room of a file or module with slashes, such as ``engine/lean`` for ``engine/lean/unet.py``."""
    floor, *inside = path.removesuffix(".py").split("/")
    return f"{floor}/{inside[0]}" if floor in FLOORS and len(inside) > 1 else floor


def floor_of(path: str) -> str:
    """Return the first part of a room's name, which has the rank."""
    return path.removesuffix(".py").split("/")[0]


def arrows(root: Path) -> tuple[Arrow, ...]:
    """Return every import of the package's own modules by its files, once for each target and line."""
    return _arrows_between(tuple(package_files(root).items()))


@cache
def _arrows_between(files: tuple[tuple[str, ast.Module], ...]) -> tuple[Arrow, ...]:
    known = {path for path, _ in files}
    return tuple(arrow for path, tree in files for arrow in dict.fromkeys(_arrows_of(path, tree, known)))


def _arrows_of(path: str, tree: ast.Module, files: set[str]) -> Iterator[Arrow]:
    lazy = {id(node) for scope in ast.walk(tree) if isinstance(scope, Scope) for node in ast.walk(scope)}
    typing = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and last_name(branch.test) == "TYPE_CHECKING"
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        for name in _imported(path, node):
            module = name.removeprefix(PACKAGE).removeprefix(".")
            target = _file_of(module, files)
            if target is None and isinstance(node, ast.ImportFrom):
                module = module.rpartition(".")[0]  # the last name is an object in the module
                target = _file_of(module, files)
            place = module.replace(".", "/")
            yield Arrow(path, target or place, module, id(node) in lazy, id(node) in typing, getattr(node, "lineno", 0))


def _imported(path: str, node: ast.AST) -> list[str]:
    """Return the full names in an import statement that belong to the package."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        folders = [PACKAGE, *path.split("/")[:-1]]
        base = folders[: len(folders) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        names = [module if alias.name == "*" else f"{module}.{alias.name}" for alias in node.names]
    return [name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")]


def _file_of(module: str, files: set[str]) -> str | None:
    path = module.replace(".", "/")
    candidates = (f"{path}.py", f"{path}/__init__.py") if path else ("__init__.py",)
    return next((candidate for candidate in candidates if candidate in files), None)
