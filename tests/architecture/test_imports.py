"""Every rule about imports goes red on a tree that breaks it, and passes on allowed imports."""

from pathlib import Path

import pytest

from tests.architecture import imports as rules
from tests.architecture.house import DOORS, FACES
from tests.architecture.trees import tree

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
    "hidden": (rules.upward_imports, "models/a.py", "import_module('diffexplain_fast.api.explainer')"),
    "new room": (rules.upward_imports, "helpers.py", ""),
    "hidden behind a function": (rules.upward_imports, "models/a.py", "__import__('diffexplain_fast.api.explainer')"),
    "a file that imports itself": (rules.circular_imports, "models/a.py", "import diffexplain_fast.models.a"),
    "no door": (rules.closed_doors, "models/a.py", "from diffexplain_fast.ops._impl import x"),
    "no door, lazily": (rules.closed_doors, "models/a.py", "def f():\n    import diffexplain_fast.ops._impl"),
    "no door of a floor's room": (
        rules.closed_doors,
        "engine/fast/a.py",
        "from diffexplain_fast.engine.lean.reading import x",
    ),
    "a door for others": (rules.closed_doors, "evidence/a.py", "from diffexplain_fast.engine.memory.tape import x"),
    "a folder for a door": (rules.closed_doors, "api/a.py", "from diffexplain_fast import evidence"),
    "the root, by name": (rules.imported_faces, "cli/a.py", "from diffexplain_fast import explain as f"),
    "the table of public names": (
        rules.imported_faces,
        "cli/a.py",
        "from diffexplain_fast.public_names import HOMES",
    ),
    "a face of a room": (rules.imported_faces, "recipe/a.py", "from diffexplain_fast.tinyworld import SIZE"),
    "another method": (
        rules.methods_that_meet,
        "methods/one/a.py",
        "from diffexplain_fast.methods.two.options import x",
    ),
    "another method, relative": (rules.methods_that_meet, "methods/one/a.py", "from ..two.options import x"),
    "a file beside the methods": (rules.methods_that_meet, "methods/one/a.py", "from ..shared import x"),
}
FACE = dict.fromkeys(FACES, "")


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_found(tmp_path: Path, name: str) -> None:
    check, path, text = BREACHES[name]
    assert len(check(tree(tmp_path, {**FACE, "evidence/__init__.py": "", path: text}))) == 1


ALLOWED = {
    "down": (rules.upward_imports, "engine/a.py", "from diffexplain_fast.models import x\nfrom . import b"),
    "same rank": (rules.upward_imports, "evidence/a.py", "from diffexplain_fast.recipe.making import x"),
    "exception": (
        rules.upward_imports,
        "results/drawn.py",
        "def f():\n    from diffexplain_fast.report.writing import x",
    ),
    "other people's": (rules.upward_imports, "models/a.py", "import_module('timm')\nimport diffusers"),
    "own door": (rules.closed_doors, "models/a.py", "from diffexplain_fast.errors import x"),
    "an open door": (rules.closed_doors, "api/a.py", "from diffexplain_fast.engine.sampler import x"),
    "a door for the floor": (
        rules.closed_doors,
        "engine/fast/a.py",
        "from diffexplain_fast.engine.memory.tape import x",
    ),
    "own room": (rules.closed_doors, "engine/lean/a.py", "from diffexplain_fast.engine.lean.reading import x"),
    "past a face": (rules.imported_faces, "recipe/a.py", "from diffexplain_fast.tinyworld.render import SIZE"),
    "a face": (rules.imported_faces, "tinyworld/__init__.py", "from diffexplain_fast.public_names import lazily"),
    "own method": (rules.methods_that_meet, "methods/one/a.py", "from diffexplain_fast.methods.one.b import x"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_passes(tmp_path: Path, name: str) -> None:
    check, path, text = ALLOWED[name]
    folder = tree(tmp_path, {**FACE, "tinyworld/render.py": "", "report/writing.py": "", path: text})
    assert check(folder) == []


LAZY = "def f():\n    from diffexplain_fast.models.b import x"
CIRCLES = {
    "of two": {"models/a.py": "from .b import x", "models/b.py": "from diffexplain_fast.models import a"},
    "of three": {
        "models/a.py": "from .b import x",
        "models/b.py": "from diffexplain_fast.ops.c import x",
        "ops/c.py": "import diffexplain_fast.models.a as x",
    },
    "lazy": {"models/a.py": LAZY, "models/b.py": "from .a import x"},
    "in a branch beside the type checker's": {
        "models/a.py": "if TYPE_CHECKING:\n    x = 1\nelse:\n    from .b import x",
        "models/b.py": "from .a import x",
    },
    "of rooms, through a package": {
        "ops/__init__.py": "from diffexplain_fast.models.a import x",
        "ops/c.py": "",
        "models/a.py": "from diffexplain_fast.ops.c import x",
    },
    "of the kernels": {"kernels/a.py": "from .b import x", "kernels/b.py": "from .a import x"},
    "of the lazy door, made eager": {
        "results/drawn.py": "from diffexplain_fast.report.writing import x",
        "report/writing.py": "from diffexplain_fast.results.drawn import x",
    },
    "of a door like the lazy one": {
        "results/other.py": "def f():\n    from diffexplain_fast.report.writing import x",
        "report/writing.py": "from diffexplain_fast.results.other import x",
    },
}


@pytest.mark.parametrize("name", CIRCLES)
def test_a_circle_is_found_once(tmp_path: Path, name: str) -> None:
    found = rules.circular_imports(tree(tmp_path, CIRCLES[name]))
    assert len(found) == 1 and found[0].split(" -> ")[0] == found[0].split(" -> ")[-1]


NO_CIRCLES = {
    "types": {"models/a.py": f"if TYPE_CHECKING:\n    from .b import x\n{LAZY}", "models/b.py": ""},
    "types, both ways": {
        "models/a.py": "if typing.TYPE_CHECKING:\n    from .b import x",
        "models/b.py": "from .a import x",
    },
    "the lazy door": {
        "results/drawn.py": "def f():\n    from diffexplain_fast.report.writing import x",
        "report/writing.py": "from diffexplain_fast.results.drawn import x",
    },
    "a face": {"__init__.py": "from diffexplain_fast.models.a import x", "models/a.py": "import diffexplain_fast"},
    "a package and its own file": {
        "ops/__init__.py": "from .a import x",
        "ops/a.py": "from .b import x",
        "ops/b.py": "",
    },
    "two ways to one file": {"models/a.py": "from . import b, c", "models/b.py": "from .c import x", "models/c.py": ""},
}


@pytest.mark.parametrize("name", NO_CIRCLES)
def test_no_circle_is_found(tmp_path: Path, name: str) -> None:
    assert rules.circular_imports(tree(tmp_path, NO_CIRCLES[name])) == []


def test_two_circles_are_two(tmp_path: Path) -> None:
    files = {f"{room}/{a}.py": f"from .{b} import x" for room in ("models", "ops") for a, b in ("ab", "ba")}
    assert len(rules.circular_imports(tree(tmp_path, files))) == 2


def test_a_door_that_no_other_room_uses_is_found(tmp_path: Path) -> None:
    folder = tree(
        tmp_path, {"stats/intervals.py": "", "evidence/a.py": "from diffexplain_fast.stats.intervals import x"}
    )
    found = rules.unused_doors(folder)
    assert len(found) == sum(map(len, DOORS.values())) - 1
    assert not any("stats/intervals" in line for line in found)
    (folder / "diffexplain_fast/evidence/a.py").write_text("")
    assert any("stats/intervals" in line for line in rules.unused_doors(folder))
