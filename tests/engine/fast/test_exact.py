"""Float64: the fast engine's images and gradients are plain autograd's, whatever it stores."""

import itertools
from importlib import import_module

import pytest
import torch

from tests.engine.fast.cases import (
    MIXED,
    PREDICTIONS,
    STEP_LEVELS,
    Case,
    arguments_of,
    assert_exact,
    inputs_of,
    levels,
    results,
    sampler_for,
)
from tests.engine.plain import SCHEDULERS, relative

TINY = ("sd15", "sd2", "sdxl")
PLANS = {
    **{name: ((name,), "keep") for name in STEP_LEVELS},
    **{decoder: (("costly", "again"), decoder) for decoder in ("slim", "apart")},
    "mixed": (MIXED, "block"),
    "mixed-back": (MIXED[::-1], "keep"),
}
"""Levels of the steps, over and over, and of the decoder."""


def named(cases):
    return [pytest.param(case, id=str(case)) for case in cases]


def every_pair():
    """Cases in which every two of model, scheduler, steps, guidance and batch meet in all their values."""
    kinds, found = list(SCHEDULERS), []
    for (m, model), (k, kind) in itertools.product(enumerate(TINY), enumerate(kinds)):
        for turn in range(2):
            steps = (1, 2, 4)[(m + k + turn) % 3]
            guidance = (3.0, 1.0)[(m + turn) % 2]
            found.append(Case(model, kind, steps, guidance, batch=(1, 3)[(k + m + turn + k // 2) % 2]))
    return found


@pytest.mark.parametrize("case", named(every_pair()))
def test_gradients_of_all_arguments_are_plain_autograd(case):
    with levels(*MIXED, decoder="block"):
        assert_exact(case)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("wanted", ["all", "prompt"])
def test_every_storage_level_is_plain_autograd(model, plan, wanted):
    """With a gradient for the prompt alone, the first step's unconditional rows run by themselves."""
    case = Case(model, "dpm", steps=3, batch=2)
    steps, decoder = PLANS[plan]
    with levels(*steps, decoder=decoder):
        assert_exact(case, None if wanted == "all" else ("prompt_embeds",))


@pytest.mark.parametrize("plan", ["keep", "narrow", "lean", "attend", "block", "again", "mixed"])
@pytest.mark.parametrize("wanted", ["all", "prompt"])
def test_cross_attention_without_its_output_is_plain_autograd(monkeypatch, wanted, plan):
    """As in half precision, where the queries are kept in its place."""
    monkeypatch.setattr(import_module("diffexplain_fast.ops.attention"), "HALF", (torch.float64,))
    steps, decoder = PLANS[plan]
    with levels(*steps, decoder=decoder):
        assert_exact(Case("sd15", "ddim", steps=2, batch=2), None if wanted == "all" else ("prompt_embeds",))


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_step_takes_its_results_back_whatever_its_scheduler_does_to_the_sample(kind):
    """A forward without a graph and the one with a graph compute the same, also where the sample is scaled first."""
    with levels("costly", "tight"):
        assert_exact(Case("sd15", kind, steps=2, batch=1))
        assert_exact(Case("sd15", kind, steps=2, batch=1), ("prompt_embeds",))


@pytest.mark.parametrize("names", [("costly", "tight"), ("again", "step")])
def test_in_half_precision_a_step_that_is_computed_again_gives_what_a_kept_one_gives(names):
    """The sample is in float32 there, and the denoiser's rows are not."""
    case, found = Case("sd15", "ddim", steps=2), []
    for plan in (("keep",), names):
        with levels(*plan):
            sampler = sampler_for(case, "fast", torch.bfloat16)
            found.append(results(sampler, inputs_of("sd15", 1, torch.bfloat16), ("prompt_embeds",)))
    for name, value in found[0].items():
        assert relative(found[1][name].double(), value.double()) <= 1e-3, name


@pytest.mark.parametrize("gradient", ["checkpointed", "last:1", "last:2", "detached", "shortcut:1", "shortcut:2"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_gradient_mode_is_plain_autograd(kind, gradient):
    for model, guidance in (("sd15", 3.0), ("sdxl", 1.0), ("sdxl", 3.0)):
        case = Case(model, kind, steps=3, guidance=guidance, batch=2, gradient=gradient)
        with levels(*(("step",) if gradient == "checkpointed" else MIXED)):
            assert_exact(case)
            assert_exact(case, ("prompt_embeds",))


def subsets(case):
    names = arguments_of(case)
    return [wanted for n in range(1, len(names)) for wanted in itertools.combinations(names, n)]


@pytest.mark.parametrize("gradient", ["full", "detached", "last:1"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_any_subset_of_arguments_may_require_grad(model, guidance, gradient):
    case = Case(model, "ddim", steps=2, guidance=guidance, gradient=gradient)
    with levels("lean", "step"):
        for wanted in subsets(case):
            assert_exact(case, wanted)


@pytest.mark.parametrize("case", named([Case("sd15", "ddim", 20), Case("sd2", "dpm", 20, guidance=1.0)]))
def test_twenty_steps_are_plain_autograd(case):
    with levels(*MIXED, decoder="block"):
        assert_exact(case)


@pytest.mark.parametrize(("kind", "guidance"), [("ddim", 3.0), ("lcm", 1.0)])
def test_tinyworlds_weights_give_plain_autograd(kind, guidance):
    with levels(*MIXED, decoder="block"):
        assert_exact(Case("tinyworld", kind, steps=2, guidance=guidance))


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("gradient", ["full", "checkpointed", "last:1", "detached"])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("model", TINY)
def test_every_model_scheduler_mode_and_plan_together_are_plain_autograd(model, steps, gradient, plan):
    names, decoder = PLANS[plan]
    for kind, guidance, batch in itertools.product(SCHEDULERS, (1.0, 3.0), (1, 3)):
        case = Case(model, kind, steps, guidance, batch, gradient)
        with levels(*(("step",) if gradient == "checkpointed" else names), decoder=decoder):
            assert_exact(case)
            assert_exact(case, ("prompt_embeds",))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("model", PREDICTIONS)
def test_twenty_steps_of_every_model_and_scheduler_are_plain_autograd(model, kind):
    with levels(*MIXED, decoder="block"):
        assert_exact(Case(model, kind, 20))
