"""Models inside of PEFT's wrapper, as ``peft.get_peft_model`` returns them: lean as with the adapter alone."""

import pytest
import torch

from diffexplain_fast.engine.lean.reading import unwrapped
from diffexplain_fast.models.frozen import trainable
from diffexplain_fast.models.wrapped import wrapped
from tests.engine.fast.cases import inputs_of
from tests.engine.fast.trained import ATTENTION, assert_same, compared, gradients_of, models_of, sampler_of

peft = pytest.importorskip("peft")


def config(**options):
    return peft.LoraConfig(r=2, init_lora_weights=False, **{"target_modules": ATTENTION, **options})


def around(models, part="unet", make=peft.get_peft_model, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        setattr(models, part, make(getattr(models, part), config(**options)).to(torch.float64).eval())
    return models


MAKERS = {
    "get_peft_model": peft.get_peft_model,
    "mixed": lambda unet, given: peft.get_peft_model(unet, given, mixed=True),
    "LoraModel": lambda unet, given: peft.LoraModel(unet, given, "default"),
}


@pytest.mark.parametrize("make", MAKERS)
def test_a_unet_in_a_wrapper_is_lean_and_its_gradients_are_plain_autograds(make):
    models = around(models_of(), make=MAKERS[make])
    sampler = compared(models, ("prompt_embeds",))
    assert sampler._engine.trained and not sampler._engine.unknown
    inside = models_of()
    inside.unet = wrapped(models.unet)[-1]
    names = [name for name, _ in inside.unet.named_parameters()]
    got, wanted = (gradients_of(sampler_of(each), each) for each in (models, inside))
    assert [*wanted] == [f"unet.{name}" for name in names if "lora_" in name]
    assert all(map(torch.equal, got.values(), wanted.values()))
    assert sampler_of(models).single_calls().described == "lean model"


def test_the_state_of_the_wrapper_is_followed():
    models = around(models_of())
    sampler = sampler_of(models)
    with models.unet.disable_adapter():
        assert not sampler(**inputs_of("sd15")).requires_grad
    assert_same(gradients_of(sampler, models), gradients_of(sampler_of(models, "reference"), models))
    models.unet.merge_adapter()
    merged = sampler(**inputs_of("sd15"))
    assert torch.allclose(merged, sampler_of(models, "reference")(**inputs_of("sd15")), rtol=0, atol=1e-10)
    assert not sampler._engine.unknown


@pytest.mark.parametrize("frozen", [False, True])
def test_a_vae_in_a_wrapper_has_no_gradient_of_its_encoder(frozen):
    models = around(models_of(), "vae", target_modules=["to_q", "conv_out"])
    models.vae.requires_grad_(not frozen)
    for name, weight in models.vae.named_parameters():
        weight.requires_grad_(not frozen and "lora_" in name)
    trained = {id(weight) for weight in trainable(models.vae)}
    names = [name for name, weight in models.vae.named_parameters() if id(weight) in trained]
    assert bool(names) is not frozen and not any(".encoder." in name for name in names)
    inputs = inputs_of("sd15")
    images = [sampler_of(models, backend)(**inputs) for backend in ("fast", "reference")]
    assert torch.allclose(*images, rtol=0, atol=1e-10)
    unknown = sampler_of(models)._engine.unknown
    assert ("trainable weights" in unknown) is not frozen and ("PeftModel" not in unknown)


def hooked(wrapper):
    wrapper.register_forward_hook(lambda module, given, output: (2 * output[0],))


def replaced(wrapper):
    forward = wrapper.forward
    wrapper.forward = lambda *given, **options: (2 * forward(*given, **options)[0],)


@pytest.mark.parametrize("edit", [hooked, replaced])
def test_a_wrapper_that_does_more_runs_itself(edit):
    models = around(models_of())
    edit(models.unet)
    sampler = compared(models, ("prompt_embeds",))
    assert "a hook or another forward on PeftModel" in sampler._engine.unknown


def test_a_model_without_a_wrapper_is_itself():
    unet = models_of().unet
    assert unwrapped(unet) is unet and wrapped(unet) == [unet]
