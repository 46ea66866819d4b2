"""Recordings that are not the call they were made of are refused, and those that only round otherwise are not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from diffexplain_fast.engine.fast.trajectory import Trajectory
from diffexplain_fast.engine.graphs.agreement import compare, multiplied, one_unit_away, rounding_unit
from diffexplain_fast.engine.graphs.function import Graphed
from diffexplain_fast.engine.graphs.policy import Graphs
from tests.engine.fast.cases import Case, inputs_of, results, sampler_for
from tests.engine.graphs.test_recording import FIRST, REPLAYED, Rerun, graphed, state

DTYPES = [torch.float32, torch.bfloat16]
NUMBERS = [f"replay_{part}_{number}" for part in ("forward", "gradient") for number in ("distance", "bound")]


class Marked(Rerun):
    """Replays by running the function again, and says when it does."""

    replaying = False

    def record(self, function):
        replay, result = super().record(function)

        def marked():
            Marked.replaying = True
            try:
                replay()
            finally:
                Marked.replaying = False

        return marked, result


def copies(tensors):
    return [part.detach().clone().requires_grad_(part.requires_grad) for part in tensors]


def stale(which):
    """Let replays read the inputs of the recording: start, text, constant time shifts, or LCM's noise."""

    def inject(monkeypatch):
        real, kept = Trajectory.forward, {}

        def forward(self, start, text, shifts):
            job = self._job
            noises = [noise for noise in job.noises if noise is not None]
            own = {"start": [start], "text": text, "noises": noises, "shifts": shifts}
            if not Marked.replaying:
                kept[which] = copies(own[which])
                return real(self, start, text, shifts)
            old = iter(kept[which])
            if which == "noises":
                self._job = replace(job, noises=[None if noise is None else next(old) for noise in job.noises])
            start = next(old) if which == "start" else start
            text, shifts = (list(old) if which == name else now for name, now in (("text", text), ("shifts", shifts)))
            return real(self, start, text, shifts)

        monkeypatch.setattr(Trajectory, "forward", forward)

    return inject


def missed_step(monkeypatch):
    """Let replays leave the first step's sample as it was."""
    real = Trajectory._step

    def step(self, i, sample, *others):
        following, *rest = real(self, i, sample, *others)
        return (sample + 0 * following if Marked.replaying and i == 0 else following, *rest)

    monkeypatch.setattr(Trajectory, "_step", step)


def other_rounding(monkeypatch):
    """Let replays round each step's text and input otherwise, as kernels that sum in another order do."""
    real = Trajectory._step

    def step(self, i, sample, before, text, shifts, level):
        if Marked.replaying and level.keep_step:
            with torch.no_grad():
                shifts = one_unit_away(shifts, torch.finfo(text[0].dtype).eps / 2)
        return real(self, i, sample, before, text, shifts, level)

    monkeypatch.setattr(Trajectory, "_step", step)


def recorded(case, dtype):
    """A sampler's record after two calls of one kind."""
    sampler = graphed(sampler_for(case, "fast", dtype, memory=None), Marked)
    for seed in range(2):
        assert (state(sampler) == "no call yet") == (seed == 0)
        results(sampler, inputs_of(case.model, case.batch, dtype, seed), ("prompt_embeds",))
    return sampler.record()


FAULTS = {
    "stale start": (stale("start"), Case()),
    "stale text": (stale("text"), Case()),
    "stale time shifts": (stale("shifts"), Case()),
    "noise of another seed": (stale("noises"), Case("sd15", "lcm", steps=4, guidance=1.0)),
    "missed step": (missed_step, Case()),
    "stale text, many steps": (stale("text"), Case(steps=20)),
    "missed step, many steps": (missed_step, Case(steps=20)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_recording_is_refused_and_the_distance_kept(fault, dtype, monkeypatch):
    inject, case = FAULTS[fault]
    inject(monkeypatch)
    found = recorded(case, dtype)
    assert found["cuda_graphs"].startswith(
        "eager: recording failed: its replay gave something else than the call itself"
    )
    forward, forward_bound, gradient, gradient_bound = (found[name] for name in NUMBERS)
    assert forward > forward_bound or gradient > gradient_bound
    if dtype == torch.float32:
        assert forward > 100 * forward_bound


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [Case(), Case(steps=20), Case("sdxl", "euler")], ids=str)
def test_the_same_operations_replayed_are_no_distance_away(case, dtype):
    found = recorded(case, dtype)
    assert found["cuda_graphs"] == REPLAYED
    forward, forward_bound, gradient, gradient_bound = (found[name] for name in NUMBERS)
    assert forward == gradient == 0
    assert torch.finfo(dtype).eps <= min(forward_bound, gradient_bound)
    assert max(forward_bound, gradient_bound) <= 0.5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [Case(), Case(steps=20)], ids=str)
def test_a_replay_that_only_rounds_otherwise_is_used(case, dtype, monkeypatch):
    other_rounding(monkeypatch)
    found = recorded(case, dtype)
    assert found["cuda_graphs"] == REPLAYED
    assert 0 < found[NUMBERS[0]] <= found[NUMBERS[1]] and 0 < found[NUMBERS[2]] <= found[NUMBERS[3]]


def test_the_record_has_no_distance_until_a_call_of_the_kind_is_recorded():
    case = Case()
    sampler = graphed(sampler_for(case, "fast", torch.float32, memory=None), Marked)
    assert [sampler.record()[name] for name in NUMBERS] == [None] * 4
    for seed, (batch, numbers) in enumerate(((1, False), (1, True), (1, True), (3, False))):
        results(sampler, inputs_of("sd15", batch, torch.float32, seed), ("prompt_embeds",))
        assert all((sampler.record()[name] is not None) == numbers for name in NUMBERS)
    assert state(sampler) == FIRST


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_function_whose_recording_reads_old_inputs_runs_eager(dtype):
    model, kept = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype).requires_grad_(False), []

    def function(x):
        kept.append(x.detach().clone())
        return (model(x + (kept[-2] - x).detach() if Marked.replaying else x),)

    graphed = Graphed(function, model, graphs=Graphs("auto", Marked))
    for _ in range(2):
        graphed(torch.rand(2, 4, dtype=dtype).requires_grad_())[0].sum().backward()
    assert graphed.state.startswith("eager: recording failed: its replay gave something else than the call itself")


def test_the_bound_is_twice_the_distance_of_the_two_calls_within_its_limits():
    one = [torch.ones(4)]
    assert compare(one, one, [1.01 * one[0]], 1e-7) == (0.0, 1e-7)  # of no tensor more than of another
    near = compare([1.015 * one[0]], one, [1.01 * one[0]], 1e-7)
    assert near.agree and near.bound == pytest.approx(2 * 0.01 / 1.01)
    assert not compare([1.03 * one[0]], one, [1.01 * one[0]], 1e-7).agree
    assert compare([one[0] + 1e-7], one, one, 1e-6) == pytest.approx((1e-7, 1e-6), rel=0.2)
    assert not compare(one, [-one[0]], [torch.full((4,), torch.nan)], 1e-7).agree  # rounding explains no more than half
    for bad in (None, torch.full((4,), torch.nan), torch.zeros(4)):
        assert not compare([bad], one, one, 1e-3).agree
    assert compare([None], [None], [None], 1e-7).agree


def test_the_rounding_unit_is_that_of_the_coarsest_dtype():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert rounding_unit([torch.int64, torch.float64, torch.bfloat16], cpu) == 2**-7
    assert rounding_unit([torch.float32], cpu) == 2**-23
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "tf32"
        assert rounding_unit([torch.float32], cuda) == 2**-10 and rounding_unit([torch.float64], cuda) == 2**-52
        conv.fp32_precision = "ieee"
        assert rounding_unit([torch.float32], cuda) == 2**-23
    finally:
        conv.fp32_precision = before


def test_contents_are_drawn_without_torchs_generator():
    before, given = torch.get_rng_state(), [torch.arange(1.0, 65.0), torch.arange(4)]
    one, two = multiplied(given, 1.0, 0.5), multiplied(given, 1.0, 0.5)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(one[0], two[0])
    assert set((one[0] / given[0]).tolist()) == {1.0, 0.5} and torch.equal(one[1], given[1])
