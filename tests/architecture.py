"""The rules of the house as functions of a source tree; each returns what breaks it, as readable lines."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "diffexplain_fast"
RANKS = {
    **dict.fromkeys(("errors", "environment", "records", "targets", "stats", "storage", "public_names"), 0),
    **dict.fromkeys(("result_folder", "results", "runs", "tinyworld", "kernels"), 1),
    "ops": 2,
    "models": 3,
    "engine": 4,
    **dict.fromkeys(("evidence", "recipe"), 5),
    "methods": 6,
    "api": 7,
    "measuring": 8,
    "report": 9,
    "cli": 10,
}
DOOR = ("results/drawn.py", "report.writing")
"""``.plot()`` and ``.report()`` of a result: the one lazy arrow upward."""
FACES = ("__init__.py", "public_names.py", "tinyworld/__init__.py", "tinyworld/recipe.py")
"""Files that only publish names of other rooms, from anywhere."""
FILE_LINES, FUNCTION_LINES, INIT_LINES, METHOD_LINES, SETUP_LINES, KERNEL_LINES = 300, 50, 40, 150, 80, 400
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
HEAVY = ("triton", "diffusers", "transformers", "timm", "torchvision")
IMPORT_SECONDS = 2.0

Scope = ast.FunctionDef | ast.AsyncFunctionDef


def sources(root: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield path relative to ``root`` and syntax tree of Python files, given by their folders or by themselves."""
    for folder in folders:
        place = root / folder
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(path: str, tree: ast.Module) -> Iterator[tuple[str, bool, int]]:
    """Yield the modules of the package that a file imports, without its name, whether lazily, and the line."""
    inside = {id(node) for scope in ast.walk(tree) if isinstance(scope, Scope) for node in ast.walk(scope)}
    home = path.removesuffix(".py").removesuffix("/__init__").split("/")
    parents = home if path.endswith("__init__.py") else home[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == PACKAGE else [module]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield name.removeprefix(PACKAGE).removeprefix("."), id(node) in inside, node.lineno


def upward_imports(root: Path) -> list[str]:
    """Return imports that point up, rooms without a rank, and imports that no reader of the file can follow."""
    found = []
    for path, tree in [*sources(root, PACKAGE), *sources(root, "kernels")]:
        place = path if path.startswith(PACKAGE) else path.replace("kernels/fused", f"{PACKAGE}/kernels")
        if place.removeprefix(f"{PACKAGE}/") in FACES:
            continue
        room = place.split("/")[1].removesuffix(".py")
        if room not in RANKS:
            found.append(f"{path}: room {room} has no rank")
            continue
        for module, lazy, line in imported(place, tree):
            target = module.split(".")[0]
            if target == room or (lazy and (place.removeprefix(f"{PACKAGE}/"), module) == DOOR):
                continue
            if target not in RANKS:
                found.append(f"{path}:{line}: imports {module or 'the package root'}, which has no rank")
            elif RANKS[target] > RANKS[room]:
                found.append(f"{path}:{line}: {room} (rank {RANKS[room]}) imports {module} (rank {RANKS[target]})")
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "import_module"]
        hidden = [node for node in calls if any(word in ast.unparse(node) for word in (PACKAGE, "__name__", "'."))]
        found += [f"{path}:{node.lineno}: import_module hides an import" for node in hidden]
    return found


def called(node: ast.Call) -> str:
    """Return the last name of what is called: ``load`` for ``torch.load(...)``."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def over_budget(root: Path) -> list[str]:
    """Return files and functions that are longer than the house allows."""
    found = []
    for path, tree in sources(root, PACKAGE, "kernels", "benchmarks", "tests", "setup.py"):
        limit = FILE_LINES
        if path == "setup.py":
            limit = SETUP_LINES
        elif path.endswith("__init__.py"):
            limit = INIT_LINES
        elif path.startswith(f"{PACKAGE}/methods/"):
            limit = METHOD_LINES
        elif path.startswith("kernels/"):
            limit = KERNEL_LINES
        if (lines := len((root / path).read_text(encoding="utf-8").splitlines())) > limit:
            found.append(f"{path}: {lines} lines, over {limit}")
        for node in ast.walk(tree):
            if isinstance(node, Scope) and (length := function_lines(node)) > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, over {FUNCTION_LINES}")
    return found


def function_lines(node: Scope) -> int:
    """Return the lines of a function without its docstring, which is as long as its arguments need."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


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
    """Return pickle and its kin, eval, exec, loaders that may unpickle, and remote code."""
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
    """Yield what is unsafe about one call."""
    options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
        yield node.func.id
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if called(node) == "load" and getattr(owner, "id", "") == "torch" and options.get("weights_only") is not True:
        yield "torch.load without weights_only=True"
    for option in ("allow_pickle", "trust_remote_code"):
        if options.get(option) is True:
            yield f"{option}=True"


def without_docstring(root: Path) -> list[str]:
    """Return public modules, classes, functions and methods of the package that say nothing about themselves."""
    found = []
    for path, tree in sources(root, PACKAGE):
        found += [] if ast.get_docstring(tree) else [f"{path}: no docstring"]
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        own = [child for parent in classes if not parent.bases for child in parent.body]  # others may inherit theirs
        for node in [*tree.body, *own]:
            if isinstance(node, ast.ClassDef | Scope) and not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(f"{path}:{node.lineno}: {node.name} has no docstring")
    return found


def undocumented(name: str, public: Any) -> list[str]:
    """Return what the docstring of a public class or function leaves out: Args, Returns, Raises."""
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

    With one argument a sentence that begins with "Return" can say it all; with more, Args and Returns are needed.
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


def run_python(code: str, folder: Path) -> str:
    """Return what a fresh interpreter prints, started in a folder that is first on its path."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def heavy_imports(root: Path) -> list[str]:
    """Return what ``import diffexplain_fast`` loads or starts that it must not, and whether it takes too long."""
    code = (
        "import sys, time; began = time.perf_counter()\n"
        f"import {PACKAGE}\n"
        "seconds = time.perf_counter() - began\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "torch = sys.modules.get('torch')\n"
        "found += ['CUDA'] if torch is not None and torch.cuda.is_initialized() else []\n"
        f"found += [f'{{seconds:.1f}} s'] if seconds > {IMPORT_SECONDS} else []\n"
        f"assert {PACKAGE}.__file__.startswith({str(root)!r})\n"
        "print('\\n'.join(found))"
    )
    return run_python(code, root).splitlines()


def shadows_kernels(root: Path) -> bool:
    """Return whether ``import kernels`` from the root of the tree finds the tree's own folder as a package."""
    code = "import importlib.util as u; s = u.find_spec('kernels'); print(s.origin if s and s.origin else '')"
    return run_python(code, root).startswith(str(root))
