"""Docstrings that are missing or incomplete."""

import ast
import inspect
from pathlib import Path
from typing import Any

from tests.architecture.house import PACKAGE
from tests.architecture.source import Scope, sources


def without_docstring(root: Path) -> list[str]:
    """Return public modules, classes, functions and methods of the package that have no docstring."""
    found = []
    for path, tree in sources(root, PACKAGE):
        found += [] if ast.get_docstring(tree) else [f"{path}: no docstring"]
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        own = [
            child for parent in classes if not parent.bases for child in parent.body
        ]  # other methods may inherit a docstring
        for node in [*tree.body, *own]:
            if isinstance(node, ast.ClassDef | Scope) and not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(f"{path}:{node.lineno}: {node.name} has no docstring")
    return found


def undocumented(name: str, public: Any) -> list[str]:
    """Return the sections that docstrings of public classes and functions lack: Args, Returns, Raises."""
    if inspect.ismodule(public):
        exported = [(f"{name}.{key}", getattr(public, key)) for key in public.__all__]
        return [line for key, value in exported if callable(value) for line in undocumented(key, value)]
    if inspect.isclass(public):
        found = []
        for key in vars(public):
            if not key.startswith("_") and inspect.isroutine(method := getattr(public, key)):
                found += missing_parts(f"{name}.{key}", method)
        own = {key for part in public.__mro__[:-1] for key in vars(part)} & {"__init__", "__new__"}
        text = public.__doc__ or ""
        takes = bool(own) and len(inspect.signature(public).parameters) > 0
        lacks = takes and not any(part in text for part in ("Args:", "Attributes:")) and "\n" in text.strip()
        return found + ([f"{name}: no Args or Attributes"] if lacks or not text else [])
    return missing_parts(name, public)


def missing_parts(name: str, function: Any) -> list[str]:
    """Return the parts that a function's docstring, or that of the method it overrides, lacks.

    With one argument a sentence that begins with "Return" is enough; with more, Args and Returns are needed.
    """
    text, signature = inspect.getdoc(function) or "", inspect.signature(function)
    taken = [key for key in signature.parameters if key not in ("self", "cls")]
    if not text:
        return [f"{name}: no docstring"]
    if not taken or (len(taken) == 1 and text.startswith("Return")):
        return []
    makes_one = inspect.ismethod(function)  # a classmethod that builds its class
    gives = signature.return_annotation not in (None, "None", inspect.Signature.empty) and not makes_one
    wanted = ["Args:", "Return"] if gives else ["Args:"]
    return [f"{name}: no {part}" for part in wanted if part not in text]
