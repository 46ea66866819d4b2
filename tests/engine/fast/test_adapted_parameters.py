"""PEFT's adapters of parameters, which write into the layer and take themselves out again in every run of it."""

import pytest
import torch

from diffexplain_fast.models.watch import Watch
from tests.engine.fast.cases import inputs_of
from tests.engine.fast.trained import assert_same, gradients_of, models_of, sampler_of, trained_in, with_lora


def adapted():
    """Models with trained adapters of two weights, one of a layer with a bias, whose order in the layer changes."""
    return with_lora(targets=[], target_parameters=["attn1.to_q.weight", "ff.net.2.weight"])


@pytest.mark.parametrize("trains", [True, False])
def test_the_gradient_is_that_of_plain_autograd(trains):
    models = adapted()
    models.unet.requires_grad_(False)
    if trains:
        for name, weight in models.unet.named_parameters():
            weight.requires_grad_("lora_" in name)
    assert bool(trained_in(models)) == trains
    wanted = gradients_of(sampler_of(models, "reference"), models, ("prompt_embeds",))
    for backend, gradient in (("fast", "full"), ("fast", "checkpointed"), ("reference", "checkpointed")):
        sampler = sampler_of(models, backend, gradient=gradient)
        for _ in range(2):
            assert_same(gradients_of(sampler, models, ("prompt_embeds",)), wanted)
            assert not sampler.edited


def test_an_edit_beside_such_an_adapter_raises():
    models = adapted()
    for backend in ("fast", "reference"):
        images = sampler_of(models, backend, gradient="checkpointed")(**inputs_of("sd15"))
        with torch.no_grad():
            models.unet.conv_in.weight.mul_(1.5)
        with pytest.raises(RuntimeError, match="edited between the sampler's call and its backward"):
            images.sum().backward()


def test_versions_are_taken_over_where_the_values_are_the_same():
    unet = models_of().unet
    watch, weight = Watch(unet), unet.conv_in.weight
    with torch.no_grad():
        weight.mul_(1)
        assert watch.touched()
        watch.ran()
        assert not watch.edited()
        weight.mul_(2)
        watch.ran()
        assert watch.touched() and watch.edited()
