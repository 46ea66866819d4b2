"""The workloads of public configurations fit together, seen on the device that computes shapes alone."""

import pytest
import torch

from diffexplain_fast.measuring.bench.rivals import plain
from diffexplain_fast.measuring.bench.workloads import WORKLOADS

PIXELS = {"sd15": 512, "sd15-50": 512, "sd15-lcm4": 512, "sd21": 768, "sdxl-4": 1024}


@pytest.mark.parametrize("name", PIXELS)
def test_it_draws_images_of_its_size(name: str) -> None:
    given = WORKLOADS[name](torch.device("meta"), torch.bfloat16).with_options(steps=1)
    with torch.no_grad():
        drawn = plain(given.setting)(given.embeds(given.start), given.latents(0))
        assert drawn.shape == (1, 3, PIXELS[name], PIXELS[name]) and given.loss(drawn).shape == ()
