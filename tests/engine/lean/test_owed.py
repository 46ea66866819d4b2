"""Biases that the next norm adds: the UNet's own numbers and gradients, wherever a bias can go."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.lean.owed import joined, summed
from diffexplain_fast.engine.lean.savings import SAVINGS
from diffexplain_fast.engine.lean.unet import LeanUNet
from tests.tiny import seeded

LAYOUTS: dict[str, dict[str, Any]] = {
    "attention at all sizes but one": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    # The first block ends with a convolution of stride 2 and the last with the last norm, and no transformer before.
    "attention at the smallest size": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
    "scaled residual blocks of two layers": {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "scale": 2.0,
    },
}


def unet_of(scale: float = 1.0, **options: Any) -> UNet2DConditionModel:
    """Return a UNet in float64 whose biases are as large as what they are added to."""
    given = {"layers_per_block": 1, **options}

    def build() -> UNet2DConditionModel:
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
            cross_attention_dim=12, attention_head_dim=4, **given,
        )  # fmt: skip
        for name, weight in unet.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight)
        return unet

    unet = seeded(build).double().requires_grad_(False)
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            module.output_scale_factor = scale
    return unet


def given_for(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a sample, text of a number of rows, and a time."""
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64)
    return sample, torch.randn(rows, 3, 12, generator=generator, dtype=torch.float64), torch.tensor([7])


def both_ways(run: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return a function's result, and the gradients of its inputs for one cotangent."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    out = run(*leaves)
    dy = torch.randn(out.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(out.dtype)
    return [out, *torch.autograd.grad(out, leaves, dy)]


@pytest.mark.parametrize("savings", [SAVINGS, ("text",)], ids=["all savings", "few savings"])
@pytest.mark.parametrize("level", ["keep", "attend", "block"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_unet_whose_norms_and_products_add_is_the_users_unet(
    layout: str, level: str, savings: tuple[str, ...]
) -> None:
    unet = unet_of(**LAYOUTS[layout])
    *inputs, time = given_for(2)
    lean = LeanUNet(unet, "reference", savings)
    assert lean.raw.adds_in_products and lean.first.bias is None

    def run(sample: Tensor, text: Tensor) -> Tensor:
        return lean(sample, lean.project(text), lean.shifts(time, None)[0], LEVELS[level])

    def plain(sample: Tensor, text: Tensor) -> Tensor:
        out: Tensor = unet(sample.repeat(2, 1, 1, 1), time, text, return_dict=False)[0]
        return out

    for ours, wanted in zip(both_ways(run, inputs), both_ways(plain, inputs), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())


def test_tritons_kernels_give_the_users_unet() -> None:
    pytest.importorskip("triton")
    unet = unet_of(**LAYOUTS["attention at the smallest size"]).float()
    *inputs, time = (each if each.dtype == torch.long else each.float() for each in given_for(1))
    lean, own = (LeanUNet(unet, impl) for impl in ("triton", "reference"))

    def results(model: LeanUNet) -> list[Tensor]:
        return both_ways(
            lambda sample, text: model(sample, model.project(text), model.shifts(time, None)[0], LEVELS["keep"]), inputs
        )

    for ours, wanted in zip(results(lean), results(own), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_the_users_biases_stay_as_they_are() -> None:
    unet = unet_of(**LAYOUTS["attention at the smallest size"])
    before = {name: weight.clone() for name, weight in unet.named_parameters()}
    LeanUNet(unet, "reference")
    assert all(torch.equal(weight, before[name]) for name, weight in unet.named_parameters())


def test_what_a_sum_and_a_concatenation_owe() -> None:
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 8.0, 16.0])
    assert summed(None, None) is None and summed(one, None) is one and summed(None, one) is one
    assert torch.equal(torch.as_tensor(summed(one, one)), 2 * one)
    assert joined(None, None, 5) is None
    for first, second, wanted in (
        (one, other, [1, 2, 4, 8, 16]),
        (one, None, [1, 2, 0, 0, 0]),
        (None, other, [0, 0, 4, 8, 16]),
    ):
        assert torch.as_tensor(joined(first, second, 5)).tolist() == wanted
