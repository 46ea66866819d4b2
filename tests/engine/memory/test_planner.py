"""A plan is of the settings of torch under which its call runs."""

import pytest
import torch

from diffexplain_fast.engine.memory import planner
from diffexplain_fast.engine.memory.costs import Counted, Request
from diffexplain_fast.engine.memory.planner import Planning
from tests.engine.fast.cases import Case, inputs_of, results, sampler_for


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that is given for every count whether it was made for deterministic kernels."""
    found, count = list[bool](), Planning._count

    def counting(planning: Planning, request: Request, fastest: bool = False) -> Counted:
        found.append(torch.are_deterministic_algorithms_enabled())
        assert not torch.is_autocast_enabled("cpu")
        return count(planning, request, fastest)

    monkeypatch.setattr(Planning, "_count", counting)
    return found


def test_a_call_under_other_settings_has_a_plan_of_its_own(
    counted: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    monkeypatch.setattr(planner, "flop_per_byte", lambda *_: rates.append(1) or 50.0)
    sampler = sampler_for(Case(steps=1), "fast", torch.float32, memory="1GiB")
    planning = sampler._engine._planning
    for fixed in (False, True, False):
        torch.use_deterministic_algorithms(fixed, warn_only=True)
        try:
            results(sampler, inputs_of("sd15", dtype=torch.float32), ("prompt_embeds",))
            planning._rate(planner.kernel_settings(torch.device("cpu")))
        finally:
            torch.use_deterministic_algorithms(False)
    assert counted == [False, True] and len(rates) == 2


@pytest.mark.parametrize("memory", ["1GiB", None])
def test_a_deterministic_call_is_planned_for_its_own_kernels(counted: list[bool], memory: str | None) -> None:
    sampler = sampler_for(Case(steps=1), "fast", torch.float32, memory=memory, deterministic=True)
    results(sampler, inputs_of("sd15", dtype=torch.float32), ("prompt_embeds",))
    with torch.autocast("cpu", torch.bfloat16):
        assert sampler.plan is not None
    assert counted and all(counted)


def test_another_reserve_is_planned_without_counting_again(counted: list[bool]) -> None:
    sampler = sampler_for(Case(steps=2), "fast", torch.float32, memory="1GiB")
    inputs = inputs_of("sd15", dtype=torch.float32)
    results(sampler, inputs, ("prompt_embeds",))
    assert sampler.plan is not None and sampler._engine is not None
    spare = 2**30 - sampler.plan.peak * 9 // 10  # so that something is computed again
    for reserve in (spare, spare + 1, None):
        sampler.reserve(reserve)
        results(sampler, inputs, ("prompt_embeds",))
        assert sampler.plan.parts.get("reserve") == reserve and sampler.plan.peak <= 2**30
    assert len(counted) == 3  # the plan that keeps everything, which does not fit, and all levels once
