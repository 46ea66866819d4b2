"""Every rival draws the same images from the same setting, and leaves the models it was given as they were."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler

from diffexplain_fast.measuring.bench.device import memory
from diffexplain_fast.measuring.bench.gate import AGREEMENT, gates, gradient, short
from diffexplain_fast.measuring.bench.rivals import ON_REQUEST, OTHER_GRADIENT, RIVALS, plain
from diffexplain_fast.measuring.bench.workloads import Workload
from tests.measuring.bench.tiny_workload import tiny_workload
from tests.tiny import tiny_sd2, tiny_sdxl

USUAL = [name for name in RIVALS if name not in ON_REQUEST]
SCHEDULERS = {"ddim": lambda made: made, "lcm": LCMScheduler.from_config, "euler": EulerDiscreteScheduler.from_config}


def workload(scheduler: str, guidance_scale: float) -> Workload:
    """Return the tiny workload with another scheduler and guidance."""
    made = tiny_workload(torch.device("cpu"), torch.float32)
    config = made.setting.scheduler if scheduler == "ddim" else made.setting.scheduler.config
    other = replace(made.setting, scheduler=SCHEDULERS[scheduler](config), guidance_scale=guidance_scale)
    return replace(made, setting=other)


@pytest.mark.parametrize(("scheduler", "guidance_scale"), [("ddim", 1.0), ("ddim", 3.0), ("lcm", 1.0), ("euler", 3.0)])
@pytest.mark.parametrize("name", USUAL)
def test_the_same_images_and_gradient(name: str, scheduler: str, guidance_scale: float) -> None:
    given = workload(scheduler, guidance_scale)
    setting = given.setting
    before = copy.deepcopy(setting.unet.state_dict())
    truth, images = plain(setting), RIVALS[name](setting)
    for number in (0, 1):  # a scheduler counts its steps
        with torch.no_grad():
            latents = given.latents(number)
            torch.testing.assert_close(images(given.start, latents), truth(given.start, latents), atol=1e-4, rtol=1e-4)
        wanted, found = gradient(given, truth, number), gradient(given, images, number)
        distance = float((found - wanted).norm() / wanted.norm())
        assert (distance > AGREEMENT) if name in OTHER_GRADIENT else (distance < AGREEMENT), distance
    torch.testing.assert_close(setting.unet.state_dict(), before, rtol=0, atol=0)
    assert not any(weight.requires_grad or weight.grad is not None for weight in setting.unet.parameters())
    assert all("forward" not in vars(module) for module in setting.unet.modules())


@pytest.mark.parametrize("make", [tiny_sd2, tiny_sdxl])
def test_other_models_agree_too(make: Callable[[], Any]) -> None:
    given = tiny_workload(torch.device("cpu"), torch.float32, make)
    same = {name: RIVALS[name] for name in USUAL if name not in OTHER_GRADIENT}
    assert not [name for name, row in gates(short(given), same) if "refused" in row]


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_the_trivial_fixes_leave_dexters_gradient(guidance_scale: float) -> None:
    given = workload("ddim", guidance_scale)
    sampler = given.setting.sampler(backend="reference", gradient="detached")
    for name in OTHER_GRADIENT:
        torch.testing.assert_close(
            gradient(given, RIVALS[name](given.setting), 0), gradient(given, sampler, 0), atol=1e-6, rtol=1e-3
        )


def test_each_differs_from_the_next_in_what_it_says() -> None:
    given = workload("ddim", 1.0)

    def peak(name: str) -> int:
        images = RIVALS[name](given.setting)
        gradient(given, images, 0)
        found = memory(partial(gradient, given, images, 0), torch.device("cpu"))["peak_bytes"]
        assert found is not None
        return found

    published, fixed = map(peak, OTHER_GRADIENT)
    assert published > 2 * fixed, "guidance rows and weight gradients"
    assert peak("plain autograd") > peak("frozen convolutions patched") > peak("diffusers block checkpointing")
    assert peak("plain autograd") > peak("per-step checkpointing")
