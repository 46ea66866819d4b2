"""Counterfactuals by gradients: exact at the start, a flip that the classifier confirms, and distance that counts."""

import math
from types import SimpleNamespace

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.editing.ddim import invert_ddim
from diffexplain_fast.editing.pictures import as_image
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.methods.diffex.gradient import log_odds
from tests.editing.test_exact import Gaussian
from tests.methods.diffex.worlds import Brightness, pictures
from tests.tiny import tiny_sd, tiny_sdxl


def explainer(pipe: object = None) -> dx.Explainer:
    classifier = dx.Classifier(Brightness(), labels=("light", "dark"))
    return dx.Explainer(tiny_sd() if pipe is None else pipe, classifier)


def picture(light: float) -> torch.Tensor:
    """Return pixels [3, H, W] of a mean."""
    given = pictures(1)[0]
    return (given + light - given.mean()).clamp(0, 1)


def as_pixels(image: object) -> torch.Tensor:
    return torch.tensor(list(image.tobytes())).reshape(16, 16, 3).permute(2, 0, 1).float() / 255


def test_the_inversion_of_a_deterministic_sampler_leads_back() -> None:
    scheduler, clean = tiny_sd().scheduler, torch.tensor([0.5, -2.0]).view(1, 1, 1, 2)
    sampler = SimpleNamespace(schedule=Schedule.from_scheduler(scheduler, 10), guidance_scale=1.0)
    models = Gaussian(scheduler, variance=0.25)
    sample = invert_ddim(sampler, models, clean, "a boat").noise
    for step in sampler.schedule.steps:
        sample = step.sample * sample + step.output * models.predict(sample, [step.timestep], models.text([""]))
    assert torch.allclose(sample, clean, rtol=1e-3, atol=1e-3)
    sampler.guidance_scale = 3.0
    with pytest.raises(ValueError, match=r"sampler: wanted a guidance scale of 1, got 3\.0"):
        invert_ddim(sampler, models, clean, "")


def test_a_picture_is_moved_until_the_answer_flips_and_not_further() -> None:
    given = picture(0.505)
    with explainer() as one:
        found = one.counterfactual(given, "light", "a boat", iterations=40, num_inference_steps=3)
    assert found is not None and found.flipped and found.changes == ()
    assert (found.before, found.after) == ("light", "dark")
    assert found.probability_before > 0.5 > found.probability_after > 0.2
    moved = as_pixels(found.image)
    assert float(moved.mean()) < 0.501 and float((moved - given).abs().mean()) < 0.1


def test_the_picture_of_the_last_step_counts() -> None:
    given, found = picture(0.505), []
    with explainer() as one:
        for iterations in range(1, 41):
            found.append(one.counterfactual(given, "light", "a boat", iterations=iterations, num_inference_steps=3))
            if found[-1] is not None and found[-1].flipped:
                break
        again = one.counterfactual(given, "light", "a boat", iterations=40, num_inference_steps=3)
    first = found[0]
    assert first is not None and first.image.tobytes() != as_image(given).tobytes(), "one step moves the picture"
    assert first.probability_after < first.probability_before
    last = found[-1]
    assert last is not None and again is not None and last.image.tobytes() == again.image.tobytes()


def test_log_odds_are_those_of_the_probability_also_where_it_is_one() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0], [90.0, 0.0, 0.0]], dtype=torch.float64)
    p = logits.softmax(1)[0, 1]
    assert float(log_odds(logits, 1, "softmax")[0]) == pytest.approx(float((p / (1 - p)).log()))
    assert float(log_odds(logits, 0, "softmax")[1]) == pytest.approx(90 - math.log(2))
    assert log_odds(logits, 2, "sigmoid").tolist() == [-1.0, 0.0]


def test_a_heavy_distance_keeps_the_picture_and_nothing_flips() -> None:
    with explainer() as one:
        near = one.counterfactual(picture(0.53), "light", distance=1e5, iterations=6, num_inference_steps=3)
        far = one.counterfactual(picture(0.53), "light", distance=0.0, iterations=6, num_inference_steps=3)
    assert near is not None and far is not None and not near.flipped
    assert far.probability_after < near.probability_after <= near.probability_before


def test_a_picture_without_the_target_has_none_and_bad_arguments_are_named() -> None:
    with explainer() as one:
        assert one.counterfactual(picture(0.4), "light", num_inference_steps=3) is None
        for options, message in (
            ({"iterations": 0}, "iterations: wanted at least 1, got 0"),
            ({"distance": -1}, "distance: wanted a number of at least 0"),
            ({"target": dx.Neuron("", 0)}, "target|layer"),
            ({"image": pictures(2)}, "image: wanted one picture, got 2"),
            ({"caption": 3}, "caption: wanted strings"),
        ):
            with pytest.raises((TypeError, ValueError), match=message):
                one.counterfactual(**{"image": picture(0.6), "target": "light", **options})
    with explainer(tiny_sdxl()) as one, pytest.raises(ValueError, match="pipeline: wanted one with a DDIM scheduler"):
        one.counterfactual(pictures(1)[0] / 2 + 0.5, "light")
