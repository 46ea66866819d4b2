"""The number of annotations with ``Any``, which state no type."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.house import ANY_IN_ANNOTATIONS
from tests.architecture.source import Scope, last_name, package_files, room_of


def any_by_room(root: Path) -> Counter[str]:
    """Return how often the annotations of a room's files name ``Any``, also in quoted annotations."""
    found: Counter[str] = Counter()
    for path, tree in package_files(root).items():
        found[room_of(path)] += sum(_any_in(annotation) for annotation in annotations(tree))
    return +found


def too_much_any(root: Path) -> list[str]:
    """Return the count of ``Any`` in annotations if it is more than the house allows."""
    total = any_by_room(root).total()
    return [f"{total} Any in annotations, over {ANY_IN_ANNOTATIONS}"] if total > ANY_IN_ANNOTATIONS else []


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the annotations of arguments, results, variables and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, Scope) and node.returns is not None:
            yield node.returns


def _any_in(annotation: ast.expr) -> int:
    count = 0
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                count += _any_in(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                continue  # text of Annotated or Literal, not a type
        elif isinstance(node, ast.Name | ast.Attribute):
            count += last_name(node) == "Any"
    return count
