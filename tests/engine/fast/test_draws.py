"""Modules that draw random numbers, such as hooks that add noise: the backward sees the numbers of the call.

Modules that count their calls are noticed, and those that tell the rows of guidance apart see all rows.
"""

import pytest
import torch
from diffusers import ConsistencyDecoderVAE

from tests.engine.fast.cases import inputs_of
from tests.engine.fast.trained import models_of, sampler_of
from tests.engine.plain import relative
from tests.tiny import seeded


def noisy(part, given, output):
    return output + torch.randn_like(output) / 2


def results(models, backend, guidance, batch=1, **options):
    """Images, two gradients of them, and a number that torch draws afterwards."""
    given = inputs_of("sd15", batch)
    prompt = given["prompt_embeds"].requires_grad_()
    torch.manual_seed(3)
    images = sampler_of(models, backend, guidance=guidance, **options)(**given)
    first, second = (torch.autograd.grad(images.square().sum(), prompt, retain_graph=True)[0] for _ in range(2))
    return images.detach(), first, second, torch.rand(1)


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("fast", {}),
        ("fast", {"memory": "64MiB"}),
        ("fast", {"gradient": "checkpointed"}),
        ("reference", {"gradient": "checkpointed"}),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_hooks_that_add_noise_add_the_same_in_the_backward(guidance, backend, options):
    models = models_of()
    models.unet.mid_block.register_forward_hook(noisy)
    models.vae.decoder.conv_in.register_forward_hook(noisy)
    wanted = results(models, "reference", guidance)
    got = results(models, backend, guidance, **options)
    assert max(map(relative, got, wanted)) <= 1e-10


@pytest.mark.parametrize("gradient", ["full", "detached"])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_hook_that_changes_only_the_rows_of_the_prompt_sees_those_without_it_too(batch, gradient):
    models = models_of()
    models.unet.mid_block.register_forward_hook(
        lambda part, given, output: torch.cat([output[:batch], 1.5 * output[batch:]])
    )
    got, wanted = (results(models, backend, 3.0, batch, gradient=gradient) for backend in ("fast", "reference"))
    assert max(map(relative, got, wanted)) <= 1e-10


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_hook_that_counts_its_calls_is_noticed_where_it_changes_the_result(part, guidance):
    models, calls = models_of(), []
    module = {"unet": models.unet.mid_block, "vae": models.vae.decoder.conv_in}[part]
    handle = module.register_forward_hook(lambda part, given, output: calls.append(part))
    results(models, "fast", guidance)
    handle.remove()
    assert calls
    module.register_forward_hook(lambda part, given, output: calls.append(part) or output * (1 + len(calls) / 10))
    with pytest.raises(RuntimeError, match="ran again for the backward, as a hook or a processor does that counts"):
        results(models, "fast", guidance)
    results(models, "reference", guidance)
    with torch.no_grad():
        sampler_of(models, guidance=guidance)(**inputs_of("sd15"))


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_a_decoder_that_draws_noise_has_the_gradient_of_that_noise(backend):
    ways = {f"decoder_{way}_block_types": (f"Resnet{way.title()}sampleBlock2D",) for way in ("down", "up")}
    sizes = {f"{part}_block_out_channels": (32,) for part in ("encoder", "decoder")}
    models = models_of()
    models.vae = seeded(
        lambda: ConsistencyDecoderVAE(**ways, **sizes, encoder_down_block_types=("DownEncoderBlock2D",))
    )
    models.vae.double()
    got, wanted = (results(models, backend, 3.0, gradient="checkpointed"), results(models, "reference", 3.0))
    assert max(map(relative, got, wanted)) <= 1e-10


def test_the_same_noise_is_added_where_memory_runs_out(monkeypatch):
    models = models_of()
    models.unet.mid_block.register_forward_hook(noisy)
    wanted, forward, calls = results(models, "reference", 3.0), type(models.unet).forward, []

    def running_out(*given, **options):
        calls.append(torch.is_grad_enabled())
        if calls.count(True) == 1 and calls[-1]:
            raise torch.OutOfMemoryError
        return forward(*given, **options)

    monkeypatch.setattr(type(models.unet), "forward", running_out)
    with pytest.warns(RuntimeWarning, match="memory ran out"):
        got = results(models, "fast", 3.0)
    assert max(map(relative, got, wanted)) <= 1e-10
