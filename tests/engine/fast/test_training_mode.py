"""Models in training mode: the engine calls the modules that embed the time in eval mode, and changes no buffer."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.engine.fast.cases import inputs_of
from tests.engine.fast.trained import models_of, sampler_of
from tests.engine.plain import relative


def dropping(model):
    """Models whose modules of the time drop numbers, and change a buffer, in training mode."""
    models = models_of(model)
    parts = [models.unet.time_embedding, *([models.unet.add_embedding] if model == "sdxl" else [])]
    for part in parts:
        part.act = nn.Sequential(nn.SiLU(), nn.Dropout(0.5))
        spectral_norm(part.linear_1)
    models.unet.train()
    return models, {name: buffer.clone() for name, buffer in models.unet.named_buffers()}


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_the_modules_of_the_time_are_frozen_while_they_run(model, recording):
    models, buffers = dropping(model)
    assert buffers
    given = inputs_of(model, 1)
    sampler, plain = (sampler_of(models, backend, model=model) for backend in ("fast", "reference"))
    with torch.set_grad_enabled(recording):
        images = [each(**given) for each in (sampler, sampler, plain)]
        calls = sampler.single_calls()
        added = None
        if model == "sdxl":
            added = {"text_embeds": given["pooled_prompt_embeds"], "time_ids": torch.ones(1, 6, dtype=torch.float64)}
        rows = [calls.denoise(given["latents"], 5, given["prompt_embeds"], added) for _ in range(2)]
    assert not sampler._engine.unknown and torch.equal(images[0], images[1]) and torch.equal(*rows)
    assert relative(images[0], images[2]) <= 1e-10
    assert models.unet.training and models.unet.time_embedding.act[1].training
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in models.unet.named_buffers())
