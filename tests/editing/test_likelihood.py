"""The denoiser's error on noisy samples: its value from the formula, and its gradient to the text."""

import pytest
import torch

from diffexplain_fast.editing.likelihood import denoising_error, has_error
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd, tiny_sdxl


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_error_is_that_of_the_formula(kind: str) -> None:
    pipe = tiny_sd()
    pipe.scheduler.register_to_config(prediction_type=kind)
    pipeline = load_pipeline(pipe)
    clean, noise = torch.randn(2, 2, *pipeline.latent_shape, generator=torch.Generator().manual_seed(0))
    text = pipeline.encode_text(["a red fish"])
    with torch.no_grad():
        found = denoising_error(pipeline, clean, torch.tensor([0.5, 0.999]), noise, text)
    for i, time in enumerate((500, 999)):
        alpha = float(pipeline.scheduler.alphas_cumprod[time])
        sample = alpha**0.5 * clean[i] + (1 - alpha) ** 0.5 * noise[i]
        wanted = noise[i] if kind == "epsilon" else alpha**0.5 * noise[i] - (1 - alpha) ** 0.5 * clean[i]
        with torch.no_grad():
            said = pipeline.unet(sample[None], time, text.prompt_embeds).sample[0]
        assert float(found[i]) == pytest.approx(float((said - wanted).square().sum()), rel=1e-4)


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
def test_the_gradient_to_the_text_is_that_of_small_changes(make) -> None:
    pipeline = load_pipeline(make())
    assert has_error(pipeline)
    weights = [weight.requires_grad for weight in pipeline.unet.parameters()]
    clean, noise = torch.randn(2, 2, *pipeline.latent_shape, generator=torch.Generator().manual_seed(0))
    text, levels = pipeline.encode_text(["a red fish"]), torch.tensor([0.4, 0.8])
    pooled = None if text.pooled is None else text.pooled.detach()
    embeds = text.prompt_embeds.detach().requires_grad_()

    def error(states: torch.Tensor) -> torch.Tensor:
        return denoising_error(pipeline, clean, levels, noise, Conditioning(states, pooled)).sum()

    (gradient,) = torch.autograd.grad(error(embeds), embeds)
    step = 1e-2 * torch.randn(embeds.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        change = float(error(embeds + step) - error(embeds - step)) / 2
    assert float((gradient * step).sum()) == pytest.approx(change, rel=0.02)
    assert [weight.requires_grad for weight in pipeline.unet.parameters()] == weights


def test_a_scheduler_without_levels_has_no_error() -> None:
    pipe = tiny_sd()
    pipe.scheduler.register_to_config(prediction_type="sample")
    assert not has_error(load_pipeline(pipe))
