"""The low-rank addition that ships for four steps, and how it is added to a denoiser."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffexplain_fast.storage import load_tensors

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, UNet2DConditionModel

FILE = "pytorch_lora_weights.safetensors"


@torch.no_grad()
def merge_low_rank(unet: "UNet2DConditionModel", folder: Path) -> None:
    """Add the additions of a folder to the weights of a plain denoiser, in place.

    Args:
        unet: in any dtype.
        folder: with ``FILE``, which diffusers' ``load_lora_weights`` reads too; its scale is 1.
    """
    tensors = load_tensors(folder / FILE)
    for key in [key for key in tensors if key.endswith("lora_A.weight")]:
        name = key.removeprefix("unet.").removesuffix(".lora_A.weight")
        down, up = tensors[key].float(), tensors[key.replace("lora_A", "lora_B")].float()
        weight = unet.get_parameter(f"{name}.weight")
        weight += (up.flatten(1) @ down.flatten(1)).view(weight.shape).to(weight)


def add_four_steps(pipeline: "DiffusionPipeline", folder: Path) -> None:
    """Add the additions of a folder to a pipeline's denoiser, and give it the scheduler that lies beside them."""
    from diffusers import LCMScheduler

    merge_low_rank(pipeline.unet, folder)
    pipeline.scheduler = LCMScheduler.from_pretrained(folder, local_files_only=True)
