"""Kernels compiled together, by threads, are found by the launches of another process: none is compiled again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from diffexplain_fast.kernels import configs, geglu, precompile
from diffexplain_fast.kernels.precompile import Compiler, Kind, Pointer, kind, kinds_of

from tests.interpreter import without_interpreter

ROOT = Path(__file__).parents[2]
CARD = """
import contextlib, sys, torch, triton
from triton.backends.compiler import GPUTarget
from diffexplain_fast.kernels import configs, geglu, guided_step, interleave, layer_norm
from diffexplain_fast.kernels.precompile import Compiler, kinds_of

class Utils:
    get_device_properties = staticmethod(lambda device: {"max_shared_mem": 2**20, "warpSize": 32})
    load_binary = staticmethod(lambda name, code, shared, device: (0, 0, 32, 0, 1024))

class Card:  # launches nothing
    get_current_target = staticmethod(lambda: GPUTarget("cuda", int(sys.argv[1]), 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=0: 0)
    utils = Utils
    launcher_cls = staticmethod(lambda source, metadata: lambda *arguments: None)

def launches(device):
    x, h = (torch.empty(6, size, dtype=torch.bfloat16, device=device) for size in (320, 640))
    layer_norm.layer_norm_fwd(x, x[0], x[0], 1e-5)
    geglu.geglu_fwd(h)
    geglu.geglu_fwd(h[:1, 1:-1])
    sample, numbers = torch.empty(1, 4, 8, 8, device=device), torch.empty(8, device=device)
    guided_step.guided_step_fwd(sample, torch.cat([sample, sample]), None, None, numbers)

triton.runtime.driver.set_active(Card())
"""
COMPILE = """
with configs.noted() as noted:
    launches("meta")
kinds = {kind for launch in noted for kind in kinds_of(launch)}
assert Compiler().compile(kinds, 2, contextlib.nullcontext) == []
print(len(kinds))
"""
LAUNCH = """
found = []
triton.knobs.compilation.listener = lambda cache_hit, **more: found.append(cache_hit)
run = configs._run
def every(name, kernel, grid, key, arguments):  # as the search for the fastest configuration launches
    for options in configs.choices(name):
        kernel[grid](**arguments, **options)
configs._run = every
launches("cpu")
print(len(found), sum(found))
"""


def ran(code: str, chip: int, cache: Path) -> list[int]:
    # In a process of its own: here the interpreter runs the kernels, and there is no driver to be told.
    environment = without_interpreter() | {"TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", CARD + code, str(chip)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("chip", [86, 90])
def test_a_run_after_it_compiles_nothing(chip: int, tmp_path: Path) -> None:
    (compiled,) = ran(COMPILE, chip, tmp_path)
    launched, hits = ran(LAUNCH, chip, tmp_path)
    assert launched == hits == compiled >= 2 + 2 * len(configs.CONFIGS["geglu"])


def launch(rows: int, columns: int, x: torch.Tensor) -> list[Kind]:
    arguments = {"h_ptr": x, "y_ptr": x, "R": rows, "D": columns, "DOUBLE": False}
    return list(kinds_of(configs.Launched("", 0, 0, "geglu", geglu.geglu_fwd_kernel, arguments)))


def test_launches_with_the_same_machine_code_are_of_one_kind() -> None:
    x = torch.empty(64, device="meta")
    same = launch(8192, 2560, x)
    assert launch(2048, 16, torch.empty(7, device="meta")) == same and len(same) == len(configs.CONFIGS["geglu"])
    others = [
        launch(8191, 2560, x),
        launch(1, 2560, x),
        launch(2**31, 2560, x),
        launch(8192, 2560, x.half()),
        launch(8192, 2560, x[1:]),
    ]
    assert len({*same, *(each for other in others for each in other)}) == (1 + len(others)) * len(same)


def test_a_real_tensor_and_its_twin_without_memory_are_of_one_form() -> None:
    for offset in (0, 4, 3):
        real, twin = (torch.empty(64, device=device)[offset:] for device in ("cpu", "meta"))
        (form,) = {dict(kind(geglu.geglu_fwd_kernel, {"h_ptr": each}).given)["h_ptr"] for each in (real, twin)}
        assert form == Pointer(torch.float32, offset % 4 == 0)


class Failing:
    """A kernel that does not compile."""

    asked = 0

    def warmup(self, **options: object) -> None:
        Failing.asked += 1
        raise RuntimeError("no")


def test_what_fails_is_told_and_each_kind_is_tried_once_for_each_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    chips: list[str] = []
    monkeypatch.setattr(precompile, "chip", lambda: chips[-1])

    @contextmanager
    def on(chip: str) -> Iterator[None]:
        chips.append(chip)
        yield
        chips.pop()

    monkeypatch.setattr(Failing, "asked", 0)
    compiler, kinds = Compiler(), [Kind(Failing(), ()), Kind(Failing(), ())]
    for chip, asked in (("sm_86", 2), ("sm_86", 2), ("sm_90", 4), ("sm_86", 4), ("sm_90", 4)):
        before = Failing.asked
        problems = compiler.compile(kinds, 1, partial(on, chip))
        assert [str(problem) for problem in problems] == ["no"] * (asked - before) and Failing.asked == asked
