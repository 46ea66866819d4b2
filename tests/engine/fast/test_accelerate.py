"""``accelerate``: a pipeline's fast sampler under a byte limit, and the pipeline as it was."""

import re

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.engine.memory.costs import least_limit
from diffexplain_fast.engine.memory.counting import live_bytes
from diffexplain_fast.engine.memory.resident import weight_bytes
from tests.engine.plain import relative
from tests.engine.samplers import embeds
from tests.tiny import tiny_sd

STEPS = 6


@pytest.fixture(scope="module")
def pipe():
    """A tiny Stable Diffusion."""
    return tiny_sd()


def run(sampler, number=0):
    """Images and the prompt's gradient."""
    prompt, latents = embeds(seed=number).requires_grad_(), torch.ones(1, 4, 8, 8)
    images = sampler(prompt, embeds(seed=9), latents=latents)
    return images.detach(), torch.autograd.grad(images.square().sum(), prompt)[0]


@pytest.mark.slow
def test_an_accelerated_pipeline_keeps_its_limit_and_the_gradient(pipe):
    modes = [part.training for part in pipe.unet.modules()]
    free = dx.accelerate(pipe, memory=None, num_inference_steps=STEPS)
    images, gradient = run(free)
    assert free.backend == "fast" and free.plan.limit is None
    parts = free.plan.parts
    weights = parts["weights"] + parts["weights in other layouts"]
    convolutions = [part for part in pipe.unet.modules() if isinstance(part, torch.nn.Conv2d)]
    assert parts["weights in other layouts"] > sum(part.weight.nbytes for part in convolutions)
    assert parts["weights"] == weight_bytes((pipe.unet, pipe.vae))
    assert not free._engine._planning._counted  # what keeps everything is all that was counted
    most = free.plan.peak
    sampler, times = dx.accelerate(pipe, memory=most - 1, num_inference_steps=STEPS), []
    run(sampler)
    counted = next(iter(sampler._engine._planning._counted.values()))
    least = least_limit(counted)
    for number in range(10):
        limit = least + number * (most - least) // 9
        sampler._engine._limits.device = limit  # counted once, planned ten times
        sampler._engine._planning.forget_plans()
        run(sampler)
        with live_bytes() as live:
            got, back = run(sampler)
        assert live.peak <= sampler.plan.peak - weights <= limit - weights
        assert relative(got, images) < 1e-5 and relative(back, gradient) < 1e-4
        levels = sampler.plan.levels
        head = counted.heads[levels[-1]].time
        times.append(head + sum(cost[name].time for cost, name in zip(counted.steps, levels[:-1], strict=True)))
    assert times == sorted(times, reverse=True) and times[-1] < times[0]
    assert sampler.plan.recompute == 0 and sampler.plan.levels == free.plan.levels
    assert modes == [part.training for part in pipe.unet.modules()]


def test_a_limit_below_every_plan_is_refused_with_the_least_limit(pipe):
    said = r"memory: wanted at least ([0-9]+) bytes .* \(the nearest plan: (.*)\), got 1000 "
    with pytest.raises(ValueError, match=said) as refused:
        run(dx.accelerate(pipe, memory=1000, num_inference_steps=STEPS))
    least, nearest = re.search(said, str(refused.value)).groups()
    sampler = dx.accelerate(pipe, memory=int(least), num_inference_steps=STEPS)
    run(sampler)
    assert sampler.plan.summary == nearest


def test_the_plan_prints_as_a_table(pipe):
    sampler = dx.accelerate(pipe, num_inference_steps=STEPS)
    assert sampler.plan is None
    run(sampler)
    text = str(sampler.plan)
    assert all(
        word in text for word in ("weights", f"{STEPS} steps, keep", "predicted peak", "limit", "computed again")
    )
