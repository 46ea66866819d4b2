"""Knowledge that rooms must not have: the backend that runs, and the scheduler of a pipeline."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.architecture.house import BLIND
from tests.architecture.source import called, floor_of, last_name, package_files

_BACKENDS = {"fast", "reference"}
_SCHEDULER = re.compile(r"(?:\w+\.)*[A-Z]\w*Scheduler")


def known_backends(root: Path) -> list[str]:
    """Return places in blind rooms that read or compare a backend; passing the user's choice on is allowed."""
    return [f"{place}: decides by the backend; ask the sampler for what is needed" for place in _places(root, _backend)]


def known_schedulers(root: Path) -> list[str]:
    """Return places in blind rooms that name a class of scheduler, or ask for the class of one."""
    return [f"{place}: knows a scheduler; ask the pipeline's adapter" for place in _places(root, _scheduler)]


def _places(root: Path, wrong: Callable[[ast.AST], bool]) -> Iterator[str]:
    for path, tree in package_files(root).items():
        if floor_of(path) in BLIND:
            nodes = (node for node in ast.walk(tree) if hasattr(node, "lineno") and wrong(node))
            yield from dict.fromkeys(f"{path}:{node.lineno}" for node in nodes)


def _backend(node: ast.AST) -> bool:
    """Return whether an expression reads an attribute ``backend``, or compares something with a backend's name."""
    match node:
        case ast.Attribute(attr="backend"):
            return isinstance(node.ctx, ast.Load)
        case ast.Call(args=[_, ast.Constant(value="backend"), *_]):
            return called(node) == "getattr"
        case ast.Match(subject=subject):
            return last_name(subject) == "backend"
        case ast.Compare(left=left, comparators=others):
            constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            return bool(constants & _BACKENDS) or any(last_name(part) == "backend" for part in (left, *others))
    return False


def _scheduler(node: ast.AST) -> bool:
    """Return whether an expression names a class of scheduler, or asks for the class of one."""
    match node:
        case ast.Constant(value=str(text)):
            return bool(_SCHEDULER.fullmatch(text))
        case ast.Attribute(attr="__class__", value=value):
            return last_name(value) == "scheduler"
        case ast.Name() | ast.Attribute():
            return bool(_SCHEDULER.fullmatch(last_name(node)))
        case ast.alias(name=name):
            return bool(_SCHEDULER.fullmatch(name))
        case ast.Call(args=[first, *_]):
            return called(node) in ("type", "isinstance") and last_name(first) == "scheduler"
    return False
