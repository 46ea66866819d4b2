"""Memory that runs out on the way: the same gradient, less kept from then on, and a word about it."""

import gc
import warnings

import pytest
import torch

from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.memory.costs import least_limit
from diffexplain_fast.engine.memory.counting import live_bytes
from diffexplain_fast.engine.memory.tape import KeptStep, Memory
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd

RAN_OUT = "memory ran out: what the sampler kept is computed again"


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd().to(torch.float64)


def run(sampler):
    """Images and the prompt's gradient of the sum of their squares."""
    prompt, negative = embeds(dtype=torch.float64).requires_grad_(), embeds(seed=1, dtype=torch.float64)
    images = sampler(prompt, negative, generator=torch.Generator().manual_seed(0))
    return images.detach(), torch.autograd.grad(images.square().sum(), prompt)[0]


class Failing:
    """A model without memory in some of its calls, by number, or in all calls that keep more than the leanest."""

    def __init__(self, model, calls=(), lean_only=False):
        self.model, self.calls, self.lean_only, self.number = model, calls, lean_only, 0
        self.raised = False

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, *arguments):
        self.number += 1
        kept = torch.is_grad_enabled() and getattr(arguments[-1], "name", None) != "bands"
        if self.number - 1 in self.calls or (self.lean_only and kept):
            self.raised = True
            raise torch.OutOfMemoryError("no memory left")
        return self.model(*arguments)


@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
@pytest.mark.parametrize("part", ["denoiser", "decoder"])
@pytest.mark.parametrize("fails", [{"lean_only": True}, {"calls": [0]}, {"calls": [3]}], ids=str)
def test_the_gradient_stays_the_same_after_memory_ran_out(pipe, gradient, part, fails):
    wanted = run(sampler_of(pipe, backend="reference"))
    sampler = sampler_of(pipe, backend="fast", gradient=gradient, memory=None)
    failing = Failing(getattr(sampler._engine, part), **fails)
    setattr(sampler._engine, part, failing)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        got = run(sampler)
    assert max(map(relative, got, wanted)) <= 1e-10
    assert failing.raised or fails != {"calls": [0]}
    assert [str(warning.message)[: len(RAN_OUT)] for warning in said] == [RAN_OUT] * failing.raised


def test_later_calls_keep_less_down_to_the_least(pipe):
    sampler = sampler_of(pipe, backend="fast", memory=None)
    run(sampler)
    peaks, levels = [sampler.plan.peak], []
    for _ in range(12):
        sampler._engine._keep_less()
        run(sampler)
        peaks.append(sampler.plan.peak)
        levels.append(sampler.plan.levels)
    assert peaks == sorted(peaks, reverse=True) and peaks[-1] == peaks[-2] < peaks[2] < peaks[0]
    assert peaks[-1] <= least_limit(*sampler._engine._planning._counted.values()) and "keep" not in levels[-1][:-1]


def test_a_call_that_does_not_fit_at_the_leanest_level_raises(pipe):
    sampler = sampler_of(pipe, backend="fast")
    sampler._engine.denoiser = Failing(sampler._engine.denoiser, calls=range(100))
    with pytest.warns(RuntimeWarning, match=RAN_OUT), pytest.raises(torch.OutOfMemoryError):
        run(sampler)


def test_kept_tensors_are_freed_when_memory_runs_out():
    """Neither the exception nor an argument holds the graph of the part that failed, or of those before."""
    told = []
    memory, x = Memory((), lambda: told.append(True)), torch.ones(1000, requires_grad=True)
    ones = torch.ones(1000)
    with live_bytes() as live:
        outputs, kept = memory.forward(lambda level: (x * x.exp(),), LEVELS["keep"], keep=True)
        assert kept and live.now >= 2 * x.nbytes
        memory.steps.append(KeptStep(x, None, kept))
        del outputs, kept

        def part(level):
            if not memory.ran_out:
                held = x.sin() * 2
                raise torch.OutOfMemoryError(f"no memory left but {held.nbytes}")
            gc.collect()
            assert live.now < x.nbytes and memory.steps == [KeptStep(x, None, None)]
            return (x * 2,)

        with pytest.warns(RuntimeWarning, match=RAN_OUT):
            (grad,) = memory.backward(part, LEVELS["keep"], [], [x], [ones])
    assert torch.equal(grad, torch.full((1000,), 2.0)) and told == [True]
