"""Inputs that the caller changes in place between a call and its backward: the call has read them as they were."""

import copy

import pytest
import torch
from torch import Tensor

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.single import SingleCalls
from tests.engine.fast.cases import cotangent_of, inputs_of, parts
from tests.engine.plain import make_scheduler, relative

SIZES = [[16.0, 16, 0, 0, 16, 16]]
WAYS = {
    "lean": ("fast", "full"),
    "own modules": ("fast", "full"),
    "reference": ("reference", "full"),
    "reference, checkpointed": ("reference", "checkpointed"),
}


def models_of(model: str, own: bool):
    """UNet and VAE; with a hook that changes nothing they run through their own modules."""
    models = copy.deepcopy(parts(model))
    if own:
        models.unet.mid_block.register_forward_hook(lambda part, given, output: None)
    return models


def leaves_of(model: str) -> dict[str, Tensor]:
    given = inputs_of(model, batch=2)
    sizes = {"time_ids": torch.tensor(SIZES, dtype=torch.float64)} if model == "sdxl" else {}
    return {name: value.detach().clone().requires_grad_() for name, value in (given | sizes).items()}


def edit(tensor: Tensor, by_data: bool) -> None:
    with torch.no_grad():
        (tensor.data if by_data else tensor).mul_(1.5)


@pytest.mark.parametrize("by_data", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("model", "guidance"), [("sd15", 1.0), ("sd15", 3.0), ("sdxl", 1.0)])
def test_a_backward_is_that_of_the_inputs_as_they_were(model: str, guidance: float, way: str, by_data: bool) -> None:
    backend, gradient = WAYS[way]
    models, options = models_of(model, way == "own modules"), {"backend": backend, "gradient": gradient}
    kind = make_scheduler("ddim")
    sampler = DifferentiableSampler(
        unet=models.unet, vae=models.vae, scheduler=kind, num_inference_steps=2, guidance_scale=guidance, **options
    )

    def grads(edited: bool) -> list[Tensor]:
        leaves = leaves_of(model)
        read = [leaf for name, leaf in leaves.items() if guidance != 1 or not name.startswith("negative")]
        images = sampler(**leaves)
        for leaf in leaves.values() if edited else ():
            edit(leaf, by_data)
        return list(torch.autograd.grad(images, read, cotangent_of(images)))

    wanted = grads(False)
    assert all(grad.norm() > 0 for grad in wanted) and all(map(torch.equal, grads(True), wanted))


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_single_call_too(backend: str, trained: bool) -> None:
    models, given = models_of("sdxl", own=False), inputs_of("sdxl", batch=2)
    sizes = torch.tensor(SIZES * 2, dtype=torch.float64)
    if trained:  # plain autograd then keeps what every projection reads
        models.unet.train()
    sampler = DifferentiableSampler(
        unet=models.unet, vae=models.vae, scheduler=make_scheduler("ddim"), num_inference_steps=2, backend=backend
    )
    calls = sampler.single_calls()
    assert isinstance(calls, SingleCalls)

    def grads(edited: bool, by_data: bool = False) -> list[Tensor]:
        named = [("rows", given["latents"]), ("embeds", given["prompt_embeds"])]
        named += [("text_embeds", given["pooled_prompt_embeds"]), ("time_ids", sizes)]
        leaves = {name: value.clone().requires_grad_(name != "time_ids") for name, value in named}
        added = {name: leaves[name] for name in ("text_embeds", "time_ids")}
        output = calls.denoise(leaves["rows"], 5, leaves["embeds"], added)
        for leaf in leaves.values() if edited else ():
            edit(leaf, by_data)
        return list(
            torch.autograd.grad(output.square().sum(), [leaf for leaf in leaves.values() if leaf.requires_grad])
        )

    wanted = grads(False)
    for by_data in (False, True):
        assert all(relative(*pair) <= 1e-12 for pair in zip(grads(True, by_data), wanted, strict=True))
