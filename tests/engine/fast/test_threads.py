"""Training in one thread while other threads run the same models."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.models.frozen import frozen
from tests.engine.fast.cases import inputs_of
from tests.engine.fast.trained import CHOSEN, assert_same, gradients_of, models_of, sampler_of, trained_in, with_lora


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_threads_that_share_models_in_training_mode_get_their_gradients(backend):
    models = models_of()
    models.unet.requires_grad_(True).train()
    sampler = sampler_of(models, backend)
    wanted = gradients_of(sampler, models)
    with ThreadPoolExecutor(3) as pool:
        for got in pool.map(lambda _: gradients_of(sampler, models), range(6)):
            assert_same(got, wanted)
    assert models.unet.training and models.unet.mid_block.training


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("choose", ["lora", "base_weight", "vae_weight"])
def test_weights_that_another_thread_has_frozen_do_not_lose_their_gradient_in_silence(backend, choose):
    models = with_lora() if choose == "lora" else models_of()
    CHOSEN.get(choose, lambda models: None)(models)
    sampler, given, context = sampler_of(models, backend), inputs_of("sd15"), frozen(models.unet, models.vae)
    given["prompt_embeds"].requires_grad_()
    wanted, images = gradients_of(sampler, models), sampler(**given)
    with ThreadPoolExecutor(1) as other:
        other.submit(context.__enter__).result()
        with pytest.raises(RuntimeError, match=r"^another thread .* give the other thread copies of the models"):
            sampler(**given)
        if backend == "fast":  # plain autograd has its graph already
            with pytest.raises(RuntimeError, match=r"^another thread"):
                images.sum().backward()
        with torch.no_grad():
            sampler(**given)
        other.submit(context.__exit__, None, None, None).result()
    assert_same(gradients_of(sampler, models), wanted)


def test_a_call_of_an_xl_model_leaves_trained_weights_as_other_threads_need_them(monkeypatch):
    """Its time shifts are computed by its own modules."""
    models = with_lora("sdxl")
    weights, seen, plain = [*trained_in(models).values()], [], LeanUNet.shifts

    def shifts(*given):
        seen.append(all(weight.requires_grad for weight in weights))
        return plain(*given)

    monkeypatch.setattr(LeanUNet, "shifts", shifts)
    gradients_of(sampler_of(models, model="sdxl"), models, model="sdxl")
    assert weights and seen and all(seen)
