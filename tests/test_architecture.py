"""The rules of the house hold in this tree, and every check goes red on a tree that breaks its rule."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

import diffexplain_fast
from tests import architecture as rules

ROOT = Path(__file__).parents[1]
CHECKS = [*rules.RULES, rules.heavy_imports]


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
    """The check of imports would pass for an empty tree."""
    rooms = {path.split("/")[1].removesuffix(".py") for path, _ in rules.sources(ROOT, "diffexplain_fast")}
    assert rooms - {"__init__"} <= set(rules.RANKS) and len(rooms) > 10
