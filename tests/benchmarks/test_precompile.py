"""What is compiled beforehand is what a later launch asks for: shapes of one kind once, in every configuration."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffexplain_fast.engine.fast import first_call
from diffexplain_fast.engine.fast.first_call import FirstCall
from tests.engine.fast.cases import Case
from tests.interpreter import without_interpreter

pytest.importorskip("triton")
from benchmarks.precompile import noting
from tests.engine.fast.test_first_call import call_of

ROOT = Path(__file__).parents[2]
CODE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from benchmarks.precompile import noting
from diffexplain_fast.kernels import configs, geglu
from diffexplain_fast.kernels.precompile import kind

class Card:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=0: 0)

triton.runtime.driver.set_active(Card())
kernel, x, run = geglu.geglu_fwd_kernel, torch.empty(64), configs._run
with noting() as kinds:
    for rows, columns in ((8192, 2560), (2048, 5120), (5, 33)):
        configs.launch("geglu", kernel, None, h_ptr=x, y_ptr=x, R=rows, D=columns, DOUBLE=False)
assert configs._run is run
choice = configs.choices("geglu")[0]
first = kind(kernel, dict(h_ptr=x, y_ptr=x, R=8192, D=2560, DOUBLE=False, **choice))
assert first in kinds
first.compile()
kernel.warmup(h_ptr=x, y_ptr=x, R=1024, D=320, DOUBLE=False, **choice, grid=(1,))
print(len(kinds), len(configs.CONFIGS["geglu"]), len(kernel.device_caches[0][0]))
"""


def test_a_later_launch_finds_its_kernel(tmp_path: Path) -> None:
    # In a process of its own: here the interpreter runs the kernels, and there is no driver to be told.
    environment = without_interpreter() | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kinds, configurations, compiled = map(int, done.stdout.split())
    assert kinds == 2 * configurations and compiled == 1


def test_no_first_call_compiles_while_kinds_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(FirstCall, "devices", ("cpu",))
    monkeypatch.setattr(first_call, "compile_kinds", lambda launches, *_: (asked.append(len(launches)), []))
    monkeypatch.delenv("DIFFEXPLAIN_FAST_PRECOMPILE", raising=False)
    call = call_of(Case())
    with noting():
        FirstCall().prepare(*call)
    assert not asked, "the compiler that is timed would have nothing left to do"
    FirstCall().prepare(*call)
    assert len(asked) == 1, "afterwards a first call compiles again"
