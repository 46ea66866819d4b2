"""A scheduler by a short name keeps the noise levels of the one it replaces, and the sampler takes it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler

from diffexplain_fast.engine.scheduler_names import SCHEDULERS, load_with_scheduler
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.errors import UnknownNameError
from tests.engine.plain import NOISE, make_scheduler
from tests.tiny import tiny_sd

PUBLISHED = {"steps_offset": 1, "set_alpha_to_one": False}
OWN = {
    "Stable Diffusion 1.x": lambda: PNDMScheduler(**NOISE, **PUBLISHED, skip_prk_steps=True),
    "2.x": lambda: PNDMScheduler(**NOISE, **PUBLISHED, skip_prk_steps=True, prediction_type="v_prediction"),
    "thresholds": lambda: make_scheduler("ddim", thresholding=True),
    "stochastic": lambda: DDPMScheduler(**NOISE, steps_offset=1, clip_sample=False, variance_type="fixed_small"),
    "another solver": lambda: make_scheduler("dpm", steps_offset=1, algorithm_type="sde-dpmsolver++", solver_order=3),
}


def saved(folder: Path, scheduler: Any) -> Path:
    """Save a pipeline with a scheduler, and return its folder."""
    pipe = tiny_sd()
    pipe.scheduler = scheduler
    pipe.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("own", OWN)
def test_every_name_replaces_what_is_refused(tmp_path: Path, own: str) -> None:
    scheduler = OWN[own]()
    folder = saved(tmp_path, scheduler)
    with pytest.raises(ValueError, match=r"scheduler.*; on the command line --scheduler\)?, got"):
        Schedule.from_scheduler(load_with_scheduler(folder, None).scheduler, 4)
    for name, kind in SCHEDULERS.items():
        made = load_with_scheduler(folder, name).scheduler
        schedule = Schedule.from_scheduler(made, 4)
        assert (schedule.scheduler, len(schedule.steps)) == (kind, 4)
        assert schedule.prediction_type == scheduler.config.prediction_type
        assert torch.equal(made.alphas_cumprod, scheduler.alphas_cumprod)


def test_ddim_from_what_is_published_is_the_usual_ddim(tmp_path: Path) -> None:
    folder = saved(tmp_path, OWN["Stable Diffusion 1.x"]())
    made = load_with_scheduler(folder, "ddim").scheduler
    assert Schedule.from_scheduler(made, 20) == Schedule.from_scheduler(make_scheduler("ddim"), 20)


def test_without_a_name_it_is_the_pipelines_own(tmp_path: Path) -> None:
    assert isinstance(load_with_scheduler(saved(tmp_path, OWN["2.x"]()), None).scheduler, PNDMScheduler)


def test_an_unknown_name_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UnknownNameError, match="scheduler: wanted one of 4 known names, nearest: dpm, ddim"):
        load_with_scheduler("./nosuch", "ddpm")
