"""The kernels of a first call are known before it runs: all that it launches, and no others."""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from diffexplain_fast.engine.fast import first_call
from diffexplain_fast.engine.fast.first_call import FirstCall, traced_launches
from diffexplain_fast.engine.fast.trajectory import Trajectory
from tests.engine.fast.cases import Case, inputs_of, sampler_for

pytest.importorskip("triton", reason="triton is not installed; its launchers say what they launch")


class Asked(FirstCall):
    """Notes what it is asked to prepare, and ends the call: the interpreter would take long."""

    def prepare(self, *call: Any) -> None:
        self.call = call
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        raise InterruptedError


def call_of(case: Case, levels: tuple[str, ...] = (), dtype: torch.dtype = torch.float32) -> tuple:
    """A call of the fast engine with Triton's kernels, with other storage levels if they are given."""
    sampler = sampler_for(case, "fast", dtype, memory=None)
    engine = sampler._engine
    engine._read = partial(engine._read, impl="triton")
    engine._watch, engine._first_call = None, Asked()
    given = inputs_of(case.model, case.batch, dtype)
    given = {name: tensor.requires_grad_(name == "prompt_embeds") for name, tensor in given.items()}
    with pytest.raises(InterruptedError):
        sampler(**given)
    job, *tensors = engine._first_call.call
    return replace(job, step_impl="triton", levels=levels or job.levels), *tensors


CASES = [
    (Case(), ()),
    (Case(steps=4), ("keep", "step", "block", "attend", "bands")),
    (Case("sd2", "dpm", steps=3, guidance=1.0, batch=3), ()),
    (Case("sdxl", "euler", steps=3, gradient="last:1"), ()),
]


@pytest.mark.parametrize(("case", "levels"), CASES, ids=str)
def test_all_kernels_of_a_call_are_known_before_and_no_others(
    case: Case, levels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffexplain_fast.kernels import configs
    from diffexplain_fast.kernels.precompile import kind, kinds_of

    job, modules, start, text, shifts = call_of(case, levels)
    known = {each for launch in traced_launches(job, modules, start, text, shifts) for each in kinds_of(launch)}
    launched = set()

    def note(name: str, kernel: Any, grid: Any, key: Any, arguments: dict[str, Any]) -> None:
        launched.update(kind(kernel, {**arguments, **options}) for options in configs.choices(name))

    monkeypatch.setattr(configs, "_run", note)
    trajectory = Trajectory(job)
    images, _ = trajectory.forward(start, text, shifts)
    trajectory.backward(torch.ones_like(images))
    assert launched and {each.kernel.__name__ for each in launched} >= {"guided_step_fwd_kernel", "geglu_bwd_kernel"}
    assert launched == known


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_call_is_prepared_under_the_settings_under_which_it_runs(deterministic: bool) -> None:
    """In deterministic calls attention is another kernel."""
    sampler = sampler_for(Case(), "fast", torch.float32, memory=None, deterministic=deterministic)
    sampler._engine._first_call = asked = Asked()
    with pytest.raises(InterruptedError):
        sampler(**inputs_of("sd15", dtype=torch.float32))
    assert asked.deterministic is deterministic and not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> list:
    """Prepare calls on the CPU; the calls of the compiler."""
    asked: list = []

    def compiled(launches: list, threads: int, device: object) -> tuple[int, list[Exception]]:
        asked.append(len(launches))
        return len(launches), []

    monkeypatch.setattr(FirstCall, "devices", ("cpu",))
    monkeypatch.setattr(first_call, "compile_kinds", compiled)
    monkeypatch.delenv("DIFFEXPLAIN_FAST_PRECOMPILE", raising=False)
    return asked


def test_the_first_call_with_a_gradient_and_the_first_without_are_prepared_once(on_cpu: list) -> None:
    job, *rest = call_of(Case())
    first = FirstCall()
    for recording in (False, True, True, False):
        first.prepare(replace(job, recording=recording), *rest)
    assert len(on_cpu) == 2 and 0 < on_cpu[0] < on_cpu[1]
    first.prepare(*call_of(Case(), dtype=torch.float16))
    assert len(on_cpu) == 3


def test_tools_that_read_every_tensor_do_not_meet_the_tensors_of_a_trace(on_cpu: list) -> None:
    """Tensors without numbers, inside the call that the caller watches."""
    with torch.autograd.graph.save_on_cpu():
        FirstCall().prepare(*call_of(Case()))
    assert on_cpu


def test_a_variable_of_the_environment_forbids_it(on_cpu: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEXPLAIN_FAST_PRECOMPILE", "0")
    FirstCall().prepare(*call_of(Case()))
    assert not on_cpu


def test_a_failure_is_said_and_stops_nothing(
    on_cpu: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call = call_of(Case())
    for problem in (lambda *_: (2, [RuntimeError("no compiler")]), lambda *_: [][0]):
        caplog.clear()
        monkeypatch.setattr(first_call, "compile_kinds", problem)
        with caplog.at_level(logging.WARNING):
            FirstCall().prepare(*call)
        assert len(caplog.messages) == 1 and "compiled one by one" in caplog.text
    assert "IndexError" in caplog.text


def test_without_tritons_kernels_nothing_is_traced(on_cpu: list) -> None:
    case = Case()
    engine = sampler_for(case, "fast", torch.float32, memory=None)._engine
    job, *rest = call_of(case)
    first = FirstCall()
    first.prepare(replace(job, denoiser=engine._read(*engine._modules, impl="reference")[0]), *rest)
    assert not on_cpu
