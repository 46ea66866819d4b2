"""Tables against diffusers' own step: every step and the whole trajectory, in float64 with a made-up denoiser."""

import copy
from functools import wraps

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from diffexplain_fast.engine.gradients import Differentiated
from diffexplain_fast.engine.reference import advance, denoise
from diffexplain_fast.engine.schedules import Schedule
from tests.engine.plain import SCHEDULERS, KeepFloat64, in_float64, make_scheduler, relative

VARIANTS = {
    "ddim": [
        {},
        {"set_alpha_to_one": True, "steps_offset": 0},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace"},
    ],
    "lcm": [{}, {"original_inference_steps": 100, "timestep_scaling": 3.0}, {"beta_schedule": "linear"}],
    "euler": [
        {},
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"timestep_spacing": "trailing"},
        {"beta_schedule": "linear"},
        {"final_sigmas_type": "sigma_min"},
        {"use_karras_sigmas": True},
        {"interpolation_type": "log_linear"},
        {"rescale_betas_zero_snr": True},
    ],
    "dpm": [
        {},
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"timestep_spacing": "trailing"},
        {"beta_schedule": "linear"},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False, "euler_at_final": True},
        {"use_karras_sigmas": True},
        {"use_lu_lambdas": True},
    ],
}
CASES = [pytest.param(kind, options, id=f"{kind}-{i}") for kind in VARIANTS for i, options in enumerate(VARIANTS[kind])]


def denoiser(sample, timestep):
    """Something smooth that depends on all it is given, with outputs as large as real ones."""
    return torch.tanh(sample + 0.3 * sample.roll(1, -1)) * torch.cos(timestep.double() / 300)


def noise_for(schedule, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) if s.noise else None for s in schedule.steps]


@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_step_is_that_of_the_diffusers_scheduler(kind, options, prediction_type, steps):
    scheduler = make_scheduler(kind, prediction_type, **options)
    schedule, plain = Schedule.from_scheduler(scheduler, steps), in_float64(scheduler, steps)
    start = torch.randn((2, 4, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noises, generator = noise_for(schedule, start.shape, 1), torch.Generator().manual_seed(1)
    extra = {"generator": generator} if kind == "lcm" else {}
    assert torch.equal(schedule.timesteps(start.device), plain.timesteps)
    assert schedule.timesteps(start.device).dtype == plain.timesteps.dtype
    sample = start * plain.init_noise_sigma
    before = None
    for step, t, noise in zip(schedule.steps, plain.timesteps, noises, strict=True):
        got, before = advance(denoiser, step, False, t, sample, before, noise)
        rows = plain.scale_model_input(sample, t)
        with KeepFloat64():
            sample = plain.step(denoiser(rows, t), t.item(), sample, return_dict=False, **extra)[0]
        assert relative(got, sample) <= 1e-12
    assert relative(denoise(denoiser, schedule, start, noises, Differentiated()), sample) <= 1e-11


def clean_of(plain, output, t, sample, extra):
    """The clean sample that diffusers itself predicts from an output."""
    if isinstance(plain, DPMSolverMultistepScheduler):
        if plain.step_index is None:
            plain._init_step_index(t)
        return plain.convert_model_output(output, sample=sample)
    made = plain.step(output, t.item(), sample, **extra)
    return made.denoised if hasattr(made, "denoised") else made.pred_original_sample


@pytest.mark.parametrize("calls", [1, 3, 4])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_shortened_schedule_ends_at_the_clean_sample_that_diffusers_predicts(kind, prediction_type, calls):
    scheduler = make_scheduler(kind, prediction_type)
    whole, plain = Schedule.from_scheduler(scheduler, 4), in_float64(scheduler, 4)
    schedule = whole.shortened(calls)
    assert schedule.steps[:-1] == whole.steps[: calls - 1] and schedule.steps[-1].noise == 0
    start = torch.randn((2, 4, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    extra = {"generator": torch.Generator().manual_seed(1)} if kind == "lcm" else {}
    sample = start * plain.init_noise_sigma
    for number, t in enumerate(plain.timesteps[:calls], 1):
        output = denoiser(plain.scale_model_input(sample, t), t)
        with KeepFloat64():
            if number == calls:
                sample = clean_of(plain, output, t, sample, extra)
            else:
                sample = plain.step(output, t.item(), sample, return_dict=False, **extra)[0]
    noises = noise_for(schedule, start.shape, 1)
    assert relative(denoise(denoiser, schedule, start, noises, Differentiated()), sample) <= 1e-11


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_table_agrees_with_unchanged_diffusers_in_float32(kind, prediction_type):
    plain = make_scheduler(kind, prediction_type)
    schedule = Schedule.from_scheduler(plain, 4)
    plain.set_timesteps(4)
    start = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    own, extra = torch.Generator().manual_seed(1), {"generator": torch.Generator().manual_seed(1)}
    noises = [torch.randn(start.shape, generator=own) if step.noise else None for step in schedule.steps]
    sample = start * plain.init_noise_sigma
    for t in plain.timesteps:
        output = denoiser(plain.scale_model_input(sample, t), t).float()
        sample = plain.step(output, t, sample, return_dict=False, **(extra if kind == "lcm" else {}))[0]
    got = denoise(lambda x, t: denoiser(x, t).float(), schedule, start, noises, Differentiated())
    assert got.dtype == torch.float32
    assert relative(got, sample) <= 2e-5


def test_zero_terminal_snr_is_refused_except_for_velocity():
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    schedule = Schedule.from_scheduler(make_scheduler("ddim", "v_prediction", **options), 4)
    assert all(abs(step.sample) < 10 for step in schedule.steps)
    with pytest.raises(ValueError, match="only v_prediction is defined"):
        Schedule.from_scheduler(make_scheduler("ddim", **options), 4)


def test_a_table_of_one_ddim_step_agrees_with_numbers_by_hand():
    """One DDIM step from t = 1 of two to the end: sqrt(a') x0 + 0, with alphas 0.5 and 0.25."""
    scheduler = DDIMScheduler(2, trained_betas=[0.5, 0.5], clip_sample=False, timestep_spacing="trailing")
    (step,) = Schedule.from_scheduler(scheduler, 1).steps
    assert (step.timestep, step.sample, step.previous, step.noise, step.data) == (1, 2.0, 0.0, 0.0, None)
    assert step.output == pytest.approx(-(0.75**0.5) / 0.5, rel=1e-15)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_callers_scheduler_is_unchanged(kind):
    scheduler = make_scheduler(kind)
    scheduler.set_timesteps(7)
    before = copy.deepcopy(vars(scheduler))
    Schedule.from_scheduler(scheduler, 3)
    assert vars(scheduler).keys() == before.keys()
    for name, value in vars(scheduler).items():
        same = torch.equal(value, before[name]) if isinstance(value, torch.Tensor) else value == before[name]
        assert same, name


def test_a_scheduler_in_use_by_a_pipeline_can_be_tabulated():
    """After a step it holds outputs with a graph, which cannot be copied deeply."""
    scheduler = make_scheduler("dpm")
    scheduler.set_timesteps(4)
    sample = torch.ones((1, 4, 2, 2), requires_grad=True)
    scheduler.step(sample * 2, scheduler.timesteps[0], sample)
    held = scheduler.model_outputs[-1]
    assert Schedule.from_scheduler(scheduler, 2) == Schedule.from_scheduler(make_scheduler("dpm"), 2)
    assert scheduler.model_outputs[-1] is held


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (DDIMScheduler(), r"clip_sample: wanted False, as in DDIMScheduler.from_config.*clip_sample=False.*got True"),
        (DDIMScheduler(clip_sample=False, thresholding=True), "thresholding: wanted False"),
        (DDIMScheduler(clip_sample=False, prediction_type="sample"), "prediction_type.*'v_prediction', got 'sample'"),
        (DDPMScheduler(), "scheduler: wanted one of DDIMScheduler.*got DDPMScheduler"),
        (EulerDiscreteScheduler(prediction_type="sample"), "prediction_type"),
        (DPMSolverMultistepScheduler(solver_order=3), "solver_order: wanted 2"),
        (DPMSolverMultistepScheduler(solver_type="heun"), "solver_type: wanted 'midpoint'"),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), r"algorithm_type: wanted 'dpmsolver\+\+'"),
        (DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), "use_flow_sigmas"),
    ],
)
def test_options_that_are_not_tabulated_are_refused(scheduler, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_scheduler(scheduler, 4)


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("method", ["step", "scale_model_input", "set_timesteps"])
def test_a_replaced_method_is_refused_by_name(kind, method):
    scheduler = make_scheduler(kind)
    setattr(scheduler, method, lambda *given, **options: getattr(type(scheduler), method)(scheduler, *given, **options))
    with pytest.raises(ValueError, match=rf"scheduler: wanted diffusers' own {type(scheduler).__name__}.{method}"):
        Schedule.from_scheduler(scheduler, 4)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_decorated_method_is_refused_unless_the_decorator_is_torchs(kind):
    scheduler, name = make_scheduler(kind), SCHEDULERS[kind][0].__name__
    wanted = Schedule.from_scheduler(scheduler, 4)
    scheduler.step = torch.no_grad()(scheduler.step)
    assert Schedule.from_scheduler(scheduler, 4) == wanted
    scheduler.step = wraps(scheduler.step)(lambda *given, **options: (0.0,))
    with pytest.raises(ValueError, match=rf"scheduler: wanted diffusers' own {name}.step"):
        Schedule.from_scheduler(scheduler, 4)


def test_a_method_that_adds_noise_in_training_may_be_another():
    scheduler = make_scheduler("ddim")
    wanted = Schedule.from_scheduler(scheduler, 4)
    scheduler.add_noise = lambda clean, noise, timesteps: clean + noise
    assert Schedule.from_scheduler(scheduler, 4) == wanted


def test_a_subclass_of_the_same_name_is_known_by_its_methods():
    def brighter(scheduler, *given, **options):
        return (1.5 * DDIMScheduler.step(scheduler, *given, **options)[0],)

    plain = make_scheduler("ddim")
    helped, bright = (
        type("DDIMScheduler", (DDIMScheduler,), methods).from_config(plain.config)
        for methods in ({"first": lambda scheduler: scheduler.timesteps[0]}, {"step": brighter})
    )
    assert Schedule.from_scheduler(helped, 4) == Schedule.from_scheduler(plain, 4)
    with pytest.raises(ValueError, match=r"own DDIMScheduler\.step"):
        Schedule.from_scheduler(bright, 4)


@pytest.mark.parametrize(("steps", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_number_of_steps_that_is_not_a_whole_number_in_range_is_refused(steps, error):
    with pytest.raises(error, match="num_inference_steps: wanted"):
        Schedule.from_scheduler(make_scheduler("ddim"), steps)


def test_more_steps_than_the_training_are_refused():
    with pytest.raises(ValueError, match="1 to 1000"):
        Schedule.from_scheduler(make_scheduler("euler"), 1001)
    with pytest.raises(ValueError, match="1 to 50"):
        Schedule.from_scheduler(make_scheduler("lcm"), 51)
    with pytest.raises(ValueError, match="timesteps below 1000"):
        Schedule.from_scheduler(make_scheduler("ddim"), 1000)  # steps_offset 1 asks for timestep 1000


def test_an_object_that_is_not_a_scheduler_is_refused():
    with pytest.raises(TypeError, match="scheduler: wanted a diffusers scheduler, got NoneType"):
        Schedule.from_scheduler(None, 4)
