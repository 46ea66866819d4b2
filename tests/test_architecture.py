"""The rules of the house hold in this tree, and every check goes red on a tree that breaks its rule."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

import diffexplain_fast
from tests import architecture as rules

ROOT = Path(__file__).parents[1]
CHECKS = [
    rules.upward_imports,
    rules.over_budget,
    rules.misplaced_calls,
    rules.unsafe_code,
    rules.without_docstring,
    rules.heavy_imports,
]
DOC = '"""Said."""\n'


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_this_tree_keeps_the_rule(check: Callable[[Path], list[str]]) -> None:
    assert not (found := check(ROOT)), "\n".join(found)


@pytest.mark.parametrize("name", diffexplain_fast.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert not (found := rules.undocumented(name, getattr(diffexplain_fast, name))), "\n".join(found)


def test_hugging_faces_kernels_is_not_shadowed() -> None:
    assert not rules.shadows_kernels(ROOT) and not (ROOT / "kernels" / "__init__.py").exists()
    installed = [dist.name for dist in importlib.metadata.distributions() if dist.name == "kernels"]
    code = "from transformers.utils import is_kernels_available as f; print(f())"
    assert rules.run_python(code, ROOT) == str(bool(installed))


def test_everything_imports_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import diffexplain_fast as dx, diffexplain_fast.cli.main\n"
        "print(all(getattr(dx, name) is not None for name in dx.__all__))"
    )
    assert rules.run_python(code, ROOT) == "True"


def test_every_file_has_a_ranked_room() -> None:
    """The check of imports would pass on an empty tree."""
    rooms = {path.split("/")[1].removesuffix(".py") for path, _ in rules.sources(ROOT, "diffexplain_fast")}
    assert rooms - {"__init__"} <= set(rules.RANKS) and len(rooms) > 10


def tree(folder: Path, path: str, text: str) -> Path:
    """Write a package of one file beside ``__init__.py``, and return its folder."""
    for place, content in {"diffexplain_fast/__init__.py": DOC, path: text}.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(content)
    return folder


LONG = "\n".join(["def long():", *["    x = 1"] * 60])
BREACHES = {
    "up": (rules.upward_imports, "models/a.py", "from diffexplain_fast.engine.sampler import x"),
    "up, lazily": (
        rules.upward_imports,
        "engine/a.py",
        "def f():\n    import diffexplain_fast.methods.a",
    ),
    "up, relative": (rules.upward_imports, "models/deep/a.py", "from ...engine import x"),
    "up, from the root": (rules.upward_imports, "models/a.py", "from diffexplain_fast import api"),
    "the root": (rules.upward_imports, "models/a.py", "import diffexplain_fast"),
    "listed exception, but eager": (
        rules.upward_imports,
        "results/drawn.py",
        "from diffexplain_fast.report.writing import x",
    ),
    "hidden": (rules.upward_imports, "models/a.py", "import_module('diffexplain_fast.api')"),
    "new room": (rules.upward_imports, "helpers.py", ""),
    "long file": (rules.over_budget, "models/a.py", "x = 1\n" * 301),
    "long __init__": (rules.over_budget, "models/__init__.py", "x = 1\n" * 41),
    "long method": (rules.over_budget, "methods/a.py", "x = 1\n" * 151),
    "long function": (rules.over_budget, "models/a.py", LONG),
    "long setup": (rules.over_budget, "../setup.py", "x = 1\n" * 81),
    "environ": (rules.misplaced_calls, "models/a.py", "import os\nos.environ['A'] = '1'"),
    "getenv": (rules.misplaced_calls, "models/a.py", "from os import getenv"),
    "print": (rules.misplaced_calls, "models/a.py", "print('a')"),
    "pickle": (rules.unsafe_code, "models/a.py", "from pickle import loads"),
    "eval": (rules.unsafe_code, "models/a.py", "eval('1')"),
    "exec": (rules.unsafe_code, "models/a.py", "exec('1')"),
    "torch.load": (rules.unsafe_code, "models/a.py", "torch.load('a')"),
    "torch.load, unsafe": (rules.unsafe_code, "models/a.py", "torch.load('a', weights_only=False)"),
    "numpy": (rules.unsafe_code, "models/a.py", "np.load('a', allow_pickle=True)"),
    "remote code": (rules.unsafe_code, "models/a.py", "f(trust_remote_code=True)"),
    "silent module": (rules.without_docstring, "models/a.py", "x = 1"),
    "silent function": (rules.without_docstring, "models/a.py", f"{DOC}def f(): ..."),
    "silent method": (rules.without_docstring, "models/a.py", f"{DOC}class _A:\n    def f(self): ..."),
    "heavy": (rules.heavy_imports, "__init__.py", "import diffusers"),
    "slow": (rules.heavy_imports, "__init__.py", "import time; time.sleep(2.1)"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_found(tmp_path: Path, name: str) -> None:
    check, path, text = BREACHES[name]
    (tmp_path / "diffusers.py").write_text("")
    assert len(check(tree(tmp_path, f"diffexplain_fast/{path}", text))) == 1


ALLOWED = {
    "down": (rules.upward_imports, "engine/a.py", "from diffexplain_fast.models import x\nfrom . import b"),
    "same rank": (rules.upward_imports, "evidence/a.py", "from diffexplain_fast.recipe.making import x"),
    "exception": (
        rules.upward_imports,
        "results/drawn.py",
        "def f():\n    from diffexplain_fast.report.writing import x",
    ),
    "other people's": (rules.upward_imports, "models/a.py", "import_module('timm')\nimport diffusers"),
    "docstring": (rules.over_budget, "models/a.py", 'def f():\n    """\n' + "said\n" * 60 + '    """\n    return 1'),
    "environ": (rules.misplaced_calls, "environment.py", "import os\nos.getenv('A')"),
    "print": (rules.misplaced_calls, "cli/a.py", "print('a')"),
    "model.eval()": (rules.unsafe_code, "models/a.py", "model.eval()\nsafetensors.load('a')"),
    "torch.load": (rules.unsafe_code, "models/a.py", "torch.load('a', weights_only=True)"),
    "private": (rules.without_docstring, "models/a.py", f"{DOC}def _f(): ..."),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_passes(tmp_path: Path, name: str) -> None:
    check, path, text = ALLOWED[name]
    assert check(tree(tmp_path, f"diffexplain_fast/{path}", text)) == []


def test_a_shadow_of_kernels_is_found(tmp_path: Path) -> None:
    assert not rules.shadows_kernels(tree(tmp_path, "kernels/fused/__init__.py", DOC))
    assert rules.shadows_kernels(tree(tmp_path, "kernels/__init__.py", DOC))


def test_missing_documentation_is_found() -> None:
    def silent(a: int) -> int:
        return a

    def half(a: int) -> int:
        """Add one.

        Args:
            a: a number.
        """
        return a

    class Silent:
        """A class.

        It has an argument.
        """

        def __init__(self, a: int) -> None:
            self.a = a

        def method(self, b: int) -> None:
            """Do."""

    assert rules.undocumented("silent", silent) == ["silent: no docstring"]
    assert rules.undocumented("half", half) == ["half: no Return"]
    assert rules.undocumented("Silent", Silent) == ["Silent.method: no Args:", "Silent: no Args or Attributes"]
