"""Models through which autograd has no path from some input: no gradient, as in plain autograd, and never zeros."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.engine.fast.node import UNREACHED
from diffexplain_fast.engine.sampler import DifferentiableSampler
from tests.engine.fast.cases import Case, cotangent_of, inputs_of, parts
from tests.engine.plain import make_scheduler, relative

BACKENDS = ["fast", "auto", "reference"]


def sampler_over(models, backend: str, **options) -> DifferentiableSampler:
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "scheduler": make_scheduler("ddim"), **options}
    return DifferentiableSampler(unet=models.unet, vae=models.vae, backend=backend, **options)


def quantised(part: nn.Module) -> nn.Module:
    with pytest.warns(DeprecationWarning):
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(part).float(), {nn.Linear}, dtype=torch.qint8)


@pytest.fixture(scope="module")
def half_quantised():
    """Models of which one is quantised, by its name."""
    found = {}
    for name in ("unet", "vae"):
        found[name] = copy.deepcopy(parts("sd15", torch.float32))
        setattr(found[name], name, quantised(getattr(found[name], name)))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch says that its own quantised tensors will go
def test_quantised_layers_draw_pictures_and_have_no_gradient(half_quantised, part: str, backend: str) -> None:
    models, given = half_quantised[part], inputs_of("sd15", dtype=torch.float32)
    sampler = sampler_over(models, backend)
    calls = sampler.single_calls()
    if backend == "fast":
        block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
        place = {"unet": block, "vae": "decoder.mid_block.attentions.0.to_q"}[part]
        linear = "torch.ao.nn.quantized.dynamic.modules.linear.Linear"
        reason = f"({place}: {linear} where torch's Linear or Conv2d was expected)"
        assert reason in sampler._engine.unknown and (part == "vae" or reason in calls.described)
    runs = {"unet": lambda x: calls.denoise(x, 5, given["prompt_embeds"]), "vae": calls.decode}
    message = rf"^{part}: wanted .* torch\.no_grad\(\), got torch\.ao\.nn\.quantized\.\S+\.Linear at \S+, "
    for name in given:
        leaves = {other: value.clone().requires_grad_(other == name) for other, value in given.items()}
        with pytest.raises(ValueError, match=message):
            sampler(**leaves)
    with pytest.raises(ValueError, match=message):
        runs[part](given["latents"].clone().requires_grad_())
    assert sampler(**given).isfinite().all() and runs[part](given["latents"]).isfinite().all()
    with torch.no_grad():
        wanted = sampler_over(parts("sd15", torch.float32), "reference")(**given)
        assert relative(sampler(**{name: value.requires_grad_() for name, value in given.items()}), wanted) < 0.1


def cut(models, steps: set[float]) -> None:
    """Let no gradient through the layers that read the prompt, at some timesteps."""
    now: list[float] = []
    models.unet.register_forward_pre_hook(lambda part, given: now.append(float(given[1])))
    for name, part in models.unet.named_modules():
        if name.endswith("attn2"):
            part.register_forward_hook(lambda part, given, output: output.detach() if now[-1] in steps else None)


def grads_of(models, names: tuple[str, ...], backend: str, **options) -> list[Tensor | None]:
    given = inputs_of("sd15")
    leaves = {name: value.clone().requires_grad_(name in names) for name, value in given.items()}
    images = sampler_over(models, backend, **options)(**leaves)
    (images * cotangent_of(images)).sum().backward()
    return [leaf.grad for leaf in leaves.values()]


STEPS = [float(step.timestep) for step in sampler_over(parts("sd15"), "reference").schedule.steps]
ASKED = [("prompt_embeds",), ("prompt_embeds", "negative_prompt_embeds", "latents"), ("latents",)]


@pytest.mark.parametrize("names", ASKED)
@pytest.mark.parametrize("without", [STEPS, STEPS[:1], STEPS[1:]])
def test_an_input_without_a_path_has_no_gradient_as_in_plain_autograd(without, names) -> None:
    models = copy.deepcopy(parts("sd15"))
    cut(models, {*without})
    run = partial(grads_of, models, names)
    if names == ("prompt_embeds",) and without == STEPS:
        with pytest.raises(RuntimeError, match="does not require grad"):
            run("reference")
        with pytest.raises(RuntimeError, match=UNREACHED[:40]):
            run("fast")
        return
    ways = [("fast", {}), ("reference", {"gradient": "checkpointed"})]
    wanted, *found = run("reference"), *(run(backend, **options) for backend, options in ways)
    for grads in found:
        for grad, truth in zip(grads, wanted, strict=True):
            assert (grad is None) == (truth is None)
            assert grad is None or relative(grad, truth) <= 1e-10
    assert (wanted[0] is not None) == ("prompt_embeds" in names and without != STEPS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_decoder_without_a_path_is_named_in_the_backward(dtype: torch.dtype) -> None:
    models, given = copy.deepcopy(parts("sd15", dtype)), inputs_of("sd15", dtype=dtype)
    models.vae.decoder.register_forward_hook(lambda part, given, output: output.detach())
    images = sampler_over(models, "fast")(**{name: value.requires_grad_() for name, value in given.items()})
    with pytest.raises(RuntimeError, match=UNREACHED[:40]):
        images.sum().backward()


def test_steps_of_a_lean_model_that_are_not_differentiated_give_no_gradient_of_their_own() -> None:
    case = Case("sdxl", steps=2, gradient="last:1")
    given = inputs_of("sdxl")
    for backend in ("fast", "reference"):
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        sampler = sampler_over(parts("sdxl"), backend, gradient=case.gradient)
        sampler(**leaves).sum().backward()
        assert [name for name, leaf in leaves.items() if leaf.grad is None] == ["latents"]
