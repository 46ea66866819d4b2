"""Every rule about code goes red on a tree that breaks it, and passes on allowed code."""

from pathlib import Path

import pytest

from tests.architecture import annotations, documentation, fresh, knowledge, layout, safety, sizes
from tests.architecture.house import ANY_IN_ANNOTATIONS, MEASURING_LINES
from tests.architecture.trees import DOC, tree

LONG = "\n".join(["def long():", *["    x = 1"] * 60])
BREACHES = {
    "long file": (sizes.over_budget, "models/a.py", "x = 1\n" * 301),
    "long __init__": (sizes.over_budget, "models/__init__.py", "x = 1\n" * 41),
    "long method": (sizes.over_budget, "methods/a.py", "x = 1\n" * 151),
    "long function": (sizes.over_budget, "models/a.py", LONG),
    "long setup": (sizes.over_budget, "../setup.py", "x = 1\n" * 81),
    "environ": (safety.misplaced_calls, "models/a.py", "import os\nos.environ['A'] = '1'"),
    "getenv": (safety.misplaced_calls, "models/a.py", "from os import getenv"),
    "print": (safety.misplaced_calls, "models/a.py", "print('a')"),
    "pickle": (safety.unsafe_code, "models/a.py", "from pickle import loads"),
    "eval": (safety.unsafe_code, "models/a.py", "eval('1')"),
    "exec": (safety.unsafe_code, "models/a.py", "exec('1')"),
    "torch.load": (safety.unsafe_code, "models/a.py", "torch.load('a')"),
    "torch.load, unsafe": (safety.unsafe_code, "models/a.py", "torch.load('a', weights_only=False)"),
    "numpy": (safety.unsafe_code, "models/a.py", "np.load('a', allow_pickle=True)"),
    "remote code": (safety.unsafe_code, "models/a.py", "f(trust_remote_code=True)"),
    "silent module": (documentation.without_docstring, "models/a.py", "x = 1"),
    "silent function": (documentation.without_docstring, "models/a.py", f"{DOC}def f(): ..."),
    "silent method": (documentation.without_docstring, "models/a.py", f"{DOC}class _A:\n    def f(self): ..."),
    "heavy": (fresh.heavy_imports, "__init__.py", "import diffusers"),
    "slow": (fresh.heavy_imports, "__init__.py", "import time; time.sleep(2.1)"),
    "a test in no room": (layout.misplaced_tests, "../tests/rooms/test_a.py", ""),
    "a test in a deeper room": (layout.misplaced_tests, "../tests/models/deep/test_a.py", ""),
    "the backend": (knowledge.known_backends, "evidence/a.py", "x = sampler.backend"),
    "the backend, by its name": (knowledge.known_backends, "api/a.py", "x = kind == 'fast'"),
    "the backend, among several": (knowledge.known_backends, "methods/a.py", "x = kind in ('auto', 'reference')"),
    "the backend, of options": (knowledge.known_backends, "api/a.py", "x = options['backend'] != chosen"),
    "the backend, matched": (knowledge.known_backends, "api/a.py", "match backend:\n    case _: pass"),
    "the backend, by getattr": (knowledge.known_backends, "methods/a.py", "x = getattr(sampler, 'backend', None)"),
    "a scheduler": (knowledge.known_schedulers, "api/a.py", "X = {'LCMScheduler': 4}"),
    "a scheduler, imported": (knowledge.known_schedulers, "methods/a.py", "from diffusers import DDIMScheduler as x"),
    "a scheduler, of a module": (knowledge.known_schedulers, "evidence/a.py", "x = diffusers.DDIMScheduler()"),
    "a scheduler, by type": (knowledge.known_schedulers, "api/a.py", "x = type(pipe.scheduler).__name__"),
    "a scheduler, by class": (knowledge.known_schedulers, "api/a.py", "x = scheduler.__class__"),
    "measuring": (sizes.too_much_measuring, "measuring/bench/a.py", "x = 1\n" * (MEASURING_LINES + 1)),
    "benchmarks": (sizes.too_much_measuring, "../benchmarks/a.py", "x = 1\n" * (MEASURING_LINES + 1)),
    "a command": (sizes.too_much_measuring, "cli/bench.py", "x = 1\n" * (MEASURING_LINES + 1)),
    "a page": (sizes.too_much_measuring, "report/profile_page.py", "x = 1\n" * (MEASURING_LINES + 1)),
    "Any": (annotations.too_much_any, "models/a.py", f"x: tuple[{'Any, ' * (ANY_IN_ANNOTATIONS + 1)}] = y"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_found(tmp_path: Path, name: str) -> None:
    check, path, text = BREACHES[name]
    (tmp_path / "diffusers.py").write_text("")
    assert len(check(tree(tmp_path, {path: text}))) == 1


ALLOWED = {
    "docstring": (sizes.over_budget, "models/a.py", 'def f():\n    """\n' + "said\n" * 60 + '    """\n    return 1'),
    "environ": (safety.misplaced_calls, "environment.py", "import os\nos.getenv('A')"),
    "print": (safety.misplaced_calls, "cli/a.py", "print('a')"),
    "model.eval()": (safety.unsafe_code, "models/a.py", "model.eval()\nsafetensors.load('a')"),
    "torch.load": (safety.unsafe_code, "models/a.py", "torch.load('a', weights_only=True)"),
    "private": (documentation.without_docstring, "models/a.py", f"{DOC}def _f(): ..."),
    "a test of a file": (layout.misplaced_tests, "../tests/test_a.py", ""),
    "a test of the benchmarks": (layout.misplaced_tests, "../tests/benchmarks/deep/test_a.py", ""),
    "a backend handed on": (knowledge.known_backends, "api/a.py", "x = {'backend': backend}\nf(backend=backend)"),
    "a backend, by who runs": (knowledge.known_backends, "engine/a.py", "x = sampler.backend == 'fast'"),
    "a word": (knowledge.known_backends, "api/a.py", "x = word == 'slow'"),
    "a scheduler, by its adapter": (knowledge.known_schedulers, "models/a.py", "X = {'LCMScheduler': 4}"),
    "a scheduler handed on": (knowledge.known_schedulers, "api/a.py", "x = f(pipe.scheduler)"),
    "measuring": (sizes.too_much_measuring, "measuring/bench/a.py", "x = 1\n" * MEASURING_LINES),
    "explaining": (sizes.too_much_measuring, "models/a.py", "x = 1\n" * (MEASURING_LINES + 1)),
    "Any": (annotations.too_much_any, "models/a.py", f"x: tuple[{'Any, ' * ANY_IN_ANNOTATIONS}] = y"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_passes(tmp_path: Path, name: str) -> None:
    check, path, text = ALLOWED[name]
    assert check(tree(tmp_path, {path: text})) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f(a: Any, *b: int, c: dict[str, Any] | None = None, **d: Any) -> Any: ...", 4),
        ("class A:\n    a: Callable[..., Any]\n    b: ClassVar[typing.Any] = 1", 2),
        ("def f(a: 'dict[str, Any]', b: Annotated[int, 'Any of these']) -> 'Any': ...", 2),
        ("from typing import Any\nX = dict[str, Any]\nx = cast(Any, y)", 0),
    ],
    ids=["arguments and results", "fields", "quoted", "no annotation"],
)
def test_any_is_counted_in_annotations(tmp_path: Path, text: str, count: int) -> None:
    folder = tree(tmp_path, {"engine/lean/a.py": text, "errors.py": "x: Any = 1"})
    assert annotations.any_by_room(folder) == {key: n for key, n in (("engine/lean", count), ("errors", 1)) if n}


def test_kernels_count_where_they_are_installed(tmp_path: Path) -> None:
    (tmp_path / "kernels/fused").mkdir(parents=True)
    (tmp_path / "kernels/fused/a.py").write_text("x: Any = 1")
    assert annotations.any_by_room(tree(tmp_path, {})) == {"kernels": 1}


def test_a_shadow_of_kernels_is_found(tmp_path: Path) -> None:
    assert not fresh.shadows_kernels(tree(tmp_path, {"../kernels/fused/__init__.py": DOC}))
    assert fresh.shadows_kernels(tree(tmp_path, {"../kernels/__init__.py": DOC}))


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

    assert documentation.undocumented("silent", silent) == ["silent: no docstring"]
    assert documentation.undocumented("half", half) == ["half: no Return"]
    assert documentation.undocumented("Silent", Silent) == ["Silent.method: no Args:", "Silent: no Args or Attributes"]
