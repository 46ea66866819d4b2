"""The model of the compiled stack runs on diffusers' own modules, which have nothing to complain of."""

import logging

import pytest
import torch
from diffusers.models.attention_processor import Attention, logger

from diffexplain_fast.prediction.compiled import _Attend


@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 8, 3, 2)])
def test_the_processor_takes_what_diffusers_passes(shape: tuple[int, ...], caplog: pytest.LogCaptureFixture) -> None:
    module = Attention(8, heads=2, dim_head=4, norm_num_groups=2, processor=_Attend(), residual_connection=True)
    logger.addHandler(caplog.handler)
    try:
        with torch.no_grad(), caplog.at_level(logging.WARNING, logger.name):
            assert module(torch.ones(shape), temb=torch.ones(1, 4)).shape == shape
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records
