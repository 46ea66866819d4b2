"""Training through the sampler: what a caller may do to weights and models, and how they come back."""

import copy

import pytest
import torch

from diffexplain_fast.models.frozen import trainable
from tests.engine.fast.cases import cotangent_of, inputs_of, parts
from tests.engine.fast.trained import (
    assert_same,
    both,
    compared,
    gradients_of,
    models_of,
    sampler_of,
    trained_in,
    vae_weight,
    with_lora,
)
from tests.engine.plain import relative
from tests.tiny import tiny_sd


def test_backward_fills_grad_and_leaves_the_models_as_they_were():
    models = models_of()
    both(models)
    models.unet.train()
    truth = gradients_of(sampler_of(models, "reference"), models)
    before = {name: (weight.requires_grad, weight.clone()) for name, weight in models.unet.named_parameters()}
    images = sampler_of(models)(**inputs_of("sd15"))
    images.backward(cotangent_of(images))
    after = {name: (weight.requires_grad, weight) for name, weight in models.unet.named_parameters()}
    assert models.unet.training and models.unet.mid_block.training and not models.vae.training
    assert all(after[name][0] == flag and torch.equal(after[name][1], value) for name, (flag, value) in before.items())
    assert_same({name: weight.grad for name, weight in trained_in(models).items()}, truth)
    assert all(weight.grad is None for weight in models.unet.parameters() if not weight.requires_grad)


def test_models_as_loaded_get_no_gradient():
    """Every weight requires grad after loading; in eval mode that is nobody's wish."""
    models = models_of()
    for part in (models.unet, models.vae):
        part.requires_grad_(True).eval()
    for backend in ("fast", "reference"):
        assert not sampler_of(models, backend)(**inputs_of("sd15")).requires_grad
    assert not sampler_of(models)._engine.unknown


def trained_by_steps(models, backend):
    """Losses of three steps of an optimizer, by one sampler."""
    sampler, losses = sampler_of(models, backend), []
    optimizer = torch.optim.Adam([*trained_in(models).values()], lr=1e-2)
    readings = sampler._engine and sampler._engine.denoiser
    for _ in range(3):
        optimizer.zero_grad()
        loss = sampler(**inputs_of("sd15")).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sampler._engine is None or sampler._engine.denoiser is readings  # a step of an optimizer is no edit
    return losses


@pytest.mark.parametrize("make", [with_lora, lambda: with_lora(targets=["to_k"]), models_of], ids=["lora", "k", "base"])
def test_steps_of_an_optimizer_are_those_of_plain_autograd(make):
    def models():
        made = make()
        if not trained_in(made):
            both(made)
        return made

    fast, plain = (trained_by_steps(models(), backend) for backend in ("fast", "reference"))
    assert fast == pytest.approx(plain, rel=1e-9) and fast[2] < fast[0]


@pytest.mark.parametrize("make", [with_lora, models_of], ids=["lora", "base"])
def test_a_step_between_forward_and_backward_raises(make):
    models = make()
    if not trained_in(models):
        both(models)
    images = sampler_of(models)(**inputs_of("sd15"))
    with torch.no_grad():
        next(iter(trained_in(models).values())).add_(0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        images.sum().backward()


def test_freezing_between_forward_and_backward_raises():
    models = models_of()
    both(models)
    images = sampler_of(models)(**inputs_of("sd15"))
    models.unet.requires_grad_(False)
    with pytest.raises(RuntimeError, match="edited between"):
        images.sum().backward()


class Drawn(torch.nn.Module):
    """A call of a sampler and its backward as a module around the UNet, for ``torch.func.functional_call``."""

    def __init__(self, models, backend):
        super().__init__()
        self.unet, self.sampler = models.unet, sampler_of(models, backend)

    def forward(self, leaves, given):
        images = self.sampler(**given)
        return torch.autograd.grad(images, leaves, cotangent_of(images))


def gradients_of_others(models, backend, weights, computed):
    """Gradients of tensors that stand in for weights: of each, or of one number that they are computed from."""
    factor = torch.full((), 1.5, dtype=torch.float64, requires_grad=True)
    others = {f"unet.{name}": factor * weight.detach() for name, weight in weights.items()}
    if not computed:
        others = {name: weight.detach().requires_grad_() for name, weight in others.items()}
    leaves = [factor] if computed else [*others.values()]
    given = inputs_of("sd15")
    return dict(enumerate(torch.func.functional_call(Drawn(models, backend), others, (leaves, given))))


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("part", ["lora", "conv_in", ""])
def test_weights_put_in_place_by_functional_call_get_a_gradient(part, computed):
    """Also in models as loaded, whose own weights nobody has chosen."""
    models = with_lora() if part == "lora" else models_of()
    if part == "":
        models.unet.requires_grad_(True)
    weights = {name: weight for name, weight in models.unet.named_parameters() if part in name}
    flags = [weight.requires_grad for weight in models.unet.parameters()]
    got, wanted = (gradients_of_others(models, backend, weights, computed) for backend in ("fast", "reference"))
    assert_same(got, wanted)
    assert [weight.requires_grad for weight in models.unet.parameters()] == flags


RECOMPUTING = [("fast", "full"), ("reference", "checkpointed")]
"""Backends and gradients whose backward reads the models."""


@pytest.mark.parametrize(("backend", "gradient"), RECOMPUTING)
@pytest.mark.parametrize("part", ["unet.conv_in", "vae.decoder.conv_in"])
def test_a_backward_after_functional_call_says_where_it_has_to_run(part, backend, gradient):
    models, given = models_of(), inputs_of("sd15")
    wrapper = Drawn(models, backend)
    wrapper.vae, wrapper.sampler = models.vae, sampler_of(models, backend, gradient=gradient)
    other = {f"{part}.weight": wrapper.get_parameter(f"{part}.weight").detach().clone().requires_grad_()}
    wrapper.forward = lambda: wrapper.sampler(**given)
    images = torch.func.functional_call(wrapper, other, ())
    with pytest.raises(RuntimeError, match=r"run the backward inside torch.func.functional_call"):
        images.sum().backward()


@pytest.mark.parametrize(("backend", "gradient"), RECOMPUTING)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_change_of_weights_before_the_backward_raises(part, backend, gradient):
    models, given = models_of(), inputs_of("sd15")
    given["prompt_embeds"].requires_grad_()
    images = sampler_of(models, backend, gradient=gradient)(**given)
    with torch.no_grad():
        getattr(models, part).get_parameter({"unet": "conv_in", "vae": "decoder.conv_in"}[part] + ".weight").mul_(2)
    with pytest.raises(RuntimeError, match="edited between the sampler's call and its backward; call the sampler"):
        images.sum().backward()


def test_a_parametrised_adapter_gets_its_gradient():
    models = with_lora()
    layer = models.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.lora_A["default"]
    torch.nn.utils.parametrizations.weight_norm(layer)
    assert "trainable weights" in compared(models)._engine.unknown


def test_weights_chosen_after_the_sampler_was_made_get_a_gradient():
    models = models_of()
    sampler = sampler_of(models)
    assert not sampler(**inputs_of("sd15")).requires_grad
    both(models)
    assert_same(gradients_of(sampler, models), gradients_of(sampler_of(models, "reference"), models))
    models.unet.requires_grad_(False)
    models.vae.requires_grad_(False)
    assert not sampler(**inputs_of("sd15")).requires_grad and not sampler._engine.unknown


@pytest.mark.parametrize("make", [with_lora, models_of], ids=["lora", "base"])
def test_hooks_of_a_weight_see_its_whole_gradient_once(make):
    models = make()
    if not trained_in(models):
        both(models)
    weight, seen = [*trained_in(models).values()][-1], []
    weight.register_hook(lambda grad: seen.append(grad) or 2 * grad)
    images = sampler_of(models, steps=3)(**inputs_of("sd15"))
    images.backward(cotangent_of(images))
    assert len(seen) == 1 and torch.equal(weight.grad, 2 * seen[0])
    truth = [*gradients_of(sampler_of(models, "reference", steps=3), models).values()][-1]
    assert relative(weight.grad, truth) <= 1e-10


@pytest.mark.parametrize("make", [with_lora, models_of], ids=["lora", "base"])
def test_a_second_backward_is_the_first_and_a_second_derivative_raises(make):
    models = make()
    if not trained_in(models):
        both(models)
    weights = [*trained_in(models).values()]
    images = sampler_of(models)(**inputs_of("sd15"))
    first = torch.autograd.grad(images.sum(), weights, retain_graph=True)
    second = torch.autograd.grad(images.sum(), weights, retain_graph=True)
    assert all(map(torch.equal, first, second))
    again = torch.autograd.grad(images.sum(), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(sum(grad.sum() for grad in again), weights[0])


def test_without_a_graph_nothing_is_recorded():
    models = with_lora()
    with torch.no_grad():
        images = sampler_of(models)(**inputs_of("sd15"))
    assert not images.requires_grad


def test_auto_chooses_the_engine_that_computes_steps_again():
    models = models_of()
    both(models)
    sampler = sampler_of(models, backend="auto", memory=None)
    sampler(**inputs_of("sd15"))
    assert sampler.backend == "fast" and "trainable weights: conv_out.bias" in sampler.plan.note


def test_the_plan_counts_the_gradients_of_weights():
    """Of each weight those of one step, their sum, and what is handed over."""
    models = models_of()
    both(models)
    sampler = sampler_of(models, memory="1GiB")
    sampler(**inputs_of("sd15"))
    numbers = sum(weight.numel() for weight in trained_in(models).values())
    assert sampler.plan.parts["gradients of trainable weights"] == 24 * numbers


def test_a_float32_adapter_over_a_bfloat16_base_gets_its_gradient():
    """An adapter in float32 over a half-precision base, as scripts train it."""
    models = with_lora()
    for name, weight in models.unet.named_parameters():
        weight.data = weight.data.to(torch.float32 if "lora_" in name else torch.bfloat16)
    models.vae.to(torch.bfloat16)
    given = {name: value.to(torch.bfloat16) for name, value in inputs_of("sd15").items()}
    sampler = sampler_of(models)
    images = sampler(**given)
    images.float().square().sum().backward()
    exact = with_lora()
    truth = sampler_of(exact, "reference")(**{name: value.double() for name, value in given.items()})
    truth.square().sum().backward()
    pairs = zip(trained_in(models).values(), trained_in(exact).values(), strict=True)
    assert not sampler._engine.unknown
    assert all(
        weight.grad.dtype == torch.float32 and relative(weight.grad, other.grad) < 0.2 for weight, other in pairs
    )


def test_lora_of_a_text_encoder_is_trained_through_prompt_embeds():
    """LoRA of a text encoder is trained through ``prompt_embeds``, whatever the sampler does."""
    peft, pipe = pytest.importorskip("peft"), tiny_sd().to(torch.float64)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"])
        pipe.text_encoder.add_adapter(config)
    pipe.text_encoder.to(torch.float64)
    weights = [weight for weight in pipe.text_encoder.parameters() if weight.requires_grad]
    tokens = pipe.tokenizer("a red boat", return_tensors="pt").input_ids
    negative = torch.zeros(1, tokens.shape[1], 16, dtype=torch.float64)
    latents = inputs_of("sd15")["latents"]
    found = []
    for backend in ("fast", "reference"):
        images = sampler_of(pipe, backend)(pipe.text_encoder(tokens)[0], negative, latents)
        found.append(torch.autograd.grad(images, weights, cotangent_of(images)))
    assert len(weights) == 8 and all(relative(*pair) <= 1e-10 for pair in zip(*found, strict=True))


def test_trained_weights_of_a_vae_that_decodes_in_float32_are_refused():
    models = copy.deepcopy(parts("sdxl", torch.float16))
    models.unet.requires_grad_(False)
    models.vae.requires_grad_(False).register_to_config(force_upcast=True)
    vae_weight(models)
    for backend in ("fast", "reference"):
        with pytest.raises(ValueError, match="vae: wanted frozen weights"):
            sampler_of(models, backend, model="sdxl")(**inputs_of("sdxl", dtype=torch.float16))


def test_a_call_after_an_edit_asks_once_which_weights_are_trained(monkeypatch):
    models, asked = models_of(), []
    sampler = sampler_of(models)
    monkeypatch.setattr(
        "diffexplain_fast.engine.fast.engine.trainable", lambda module: (asked.append(module), trainable(module))[1]
    )
    with torch.no_grad():
        models.unet.conv_out.weight.mul_(2)
        sampler(**inputs_of("sd15"))
    assert asked == [models.unet, models.vae]
