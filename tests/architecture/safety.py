"""Code that could run the content of a file, and calls that only one room may make."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.house import PACKAGE, UNSAFE_MODULES
from tests.architecture.source import called, sources


def misplaced_calls(root: Path) -> list[str]:
    """Return uses of the environment outside environment.py, and of print outside cli."""
    found = []
    for path, tree in [*sources(root, PACKAGE), *sources(root, "kernels")]:
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) and node.module == "os" else []
            )
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                names.append(node.attr)
            if path != f"{PACKAGE}/environment.py" and {"environ", "getenv", "putenv", "environb"} & set(names):
                found.append(f"{path}:{node.lineno}: reads the environment")  # type: ignore[attr-defined]
            is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if is_print and not path.startswith(f"{PACKAGE}/cli/"):
                found.append(f"{path}:{node.lineno}: prints")  # type: ignore[attr-defined]
    return found


def unsafe_code(root: Path) -> list[str]:
    """Return uses of pickle and similar modules, eval, exec, loaders that may unpickle, and remote code."""
    found = []
    for path, tree in sources(root, PACKAGE, "kernels", "benchmarks"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                if UNSAFE_MODULES & {module.split(".")[0] for module in modules}:
                    found.append(f"{path}:{node.lineno}: imports {', '.join(modules)}")
            elif isinstance(node, ast.Call):
                found += [f"{path}:{node.lineno}: {problem}" for problem in unsafe_call(node)]
    return found


def unsafe_call(node: ast.Call) -> Iterator[str]:
    """Yield the reasons why a call is unsafe."""
    options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
        yield node.func.id
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if called(node) == "load" and getattr(owner, "id", "") == "torch" and options.get("weights_only") is not True:
        yield "torch.load without weights_only=True"
    for option in ("allow_pickle", "trust_remote_code"):
        if options.get(option) is True:
            yield f"{option}=True"
