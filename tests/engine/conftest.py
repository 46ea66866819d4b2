"""Tiny pipelines in float64 and their inputs, made once for all of the engine's tests."""

from types import SimpleNamespace

import pytest
import torch

from tests.tiny import tiny_sd, tiny_sdxl


def _inputs(pipe, width, batch):
    generator = torch.Generator().manual_seed(7)

    def draw(*shape, grad=True):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)

    return SimpleNamespace(
        prompt=draw(batch, 5, width),
        negative=draw(1, 5, width, grad=False),
        latents=draw(batch, 4, 8, 8),
        cotangent=draw(batch, 3, 16, 16, grad=False),
    )


@pytest.fixture(scope="session")
def sd():
    """A tiny Stable Diffusion in float64."""
    return tiny_sd().to(torch.float64)


@pytest.fixture(scope="session")
def sdxl():
    """A tiny Stable Diffusion XL in float64."""
    return tiny_sdxl().to(torch.float64)


@pytest.fixture
def inputs(sd):
    """Inputs of the tiny Stable Diffusion for a batch size; prompt and latents require grad."""
    return lambda batch=1: _inputs(sd, 16, batch)


@pytest.fixture
def xl_inputs(sdxl):
    """The same for the tiny Stable Diffusion XL."""
    return lambda batch=1: _inputs(sdxl, 40, batch)
