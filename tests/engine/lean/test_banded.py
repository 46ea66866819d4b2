"""The last stage of a decoder in bands of rows: the images and gradients of the whole stage, in less memory."""

import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils.checkpoint import checkpoint

from diffexplain_fast.engine.lean import banded as streamed
from diffexplain_fast.engine.lean.decoder import LeanDecoder
from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.memory.counting import live_bytes
from tests.engine.plain import relative
from tests.tiny import seeded

WIDTHS = {"one stage": (16,), "two stages": (16, 32), "shortcut": (8, 16, 16)}


def decoder_of(widths, layers=1, dtype=torch.float64):
    """A decoder whose norms and biases are not those of a fresh one."""

    def build():
        count = len(widths)
        made = AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=layers,
            latent_channels=4,
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
        )
        for weight in made.parameters():
            if weight.ndim == 1:
                weight.data += 0.3 * torch.randn_like(weight)
        return made

    return LeanDecoder(seeded(build).to(dtype).requires_grad_(False))


def both_ways(decoder, latents, level):
    """Images, and the latents' gradient of a fixed weighting of them."""
    leaf = latents.clone().requires_grad_()
    images = decoder(leaf, LEVELS[level])
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images.dtype)
    return images.detach(), torch.autograd.grad(images, leaf, weights)[0]


@pytest.mark.parametrize("band", [1, 300, 4000, 2**20])
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_bands_give_the_images_and_gradients_of_the_whole_decoder(monkeypatch, widths, layers, band):
    """From bands of one row to the whole image in one."""
    monkeypatch.setattr(streamed, "_BAND", band)
    decoder = decoder_of(widths, layers)
    for shape in ((2, 4, 3, 5), (1, 4, 1, 2)):
        latents = torch.randn(shape, dtype=torch.float64)
        for got, wanted in zip(*(both_ways(decoder, latents, level) for level in ("bands", "keep")), strict=True):
            assert relative(got, wanted) <= 1e-12


def test_single_precision_errs_no_more_than_twice_the_whole(monkeypatch):
    monkeypatch.setattr(streamed, "_BAND", 1000)
    truth, single = decoder_of((8, 16), 1), decoder_of((8, 16), 1, torch.float32)
    latents = torch.randn(1, 4, 8, 8)
    exact = both_ways(truth, latents.double(), "keep")
    errors = [
        [relative(got.double(), wanted) for got, wanted in zip(both_ways(single, latents, level), exact, strict=True)]
        for level in ("bands", "keep")
    ]
    assert all(ours <= 2 * whole for ours, whole in zip(*errors, strict=True)), errors


def test_far_from_zero_the_statistics_stay_exact(monkeypatch):
    """Differences from a mean, not of squares."""
    monkeypatch.setattr(streamed, "_BAND", 64)
    norm = streamed.Norm(torch.ones(8), torch.zeros(8), 4, 1e-6)
    x = (torch.randn(1, 8, 16, 4, dtype=torch.float64) + 1000).contiguous(memory_format=torch.channels_last)
    found = streamed._statistics(streamed._rows_of(x.float()), 16, norm)
    variance = x.float().double().unflatten(1, (4, 2)).var((2, 3, 4), correction=0)
    wanted = (variance + 1e-6).rsqrt().repeat_interleave(2, 1)
    assert relative(found.rstd[:, :, 0, 0].double(), wanted) < 1e-5


def test_squares_beyond_the_range_are_not_finite():
    """Zero in the place of NaN would quietly leave only the bias."""
    x = 1e30 * torch.randn(1, 8, 16, 4).contiguous(memory_format=torch.channels_last)
    found = streamed._statistics(streamed._rows_of(x), 16, streamed.Norm(torch.ones(8), torch.zeros(8), 4, 1e-6))
    assert found.rstd.isnan().all()


def test_bands_hold_fewer_bytes_than_the_whole_decoder(monkeypatch):
    monkeypatch.setattr(streamed, "_BAND", 2**14)
    decoder, latents = decoder_of((16, 32), 2, torch.float32), torch.randn(1, 4, 64, 64)
    peaks = {}
    for level in ("keep", "block", "bands"):
        with live_bytes() as live:
            both_ways(decoder, latents, level)
        peaks[level] = live.peak
    assert peaks["bands"] < 0.6 * peaks["block"] < 0.6 * peaks["keep"]


@pytest.mark.parametrize("channels", [(16, 32), (16,)], ids=str)
def test_a_second_backward_computes_again_what_the_first_used_up(channels):
    decoder = decoder_of(channels)
    latents = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = decoder(latents, LEVELS["bands"]).square().sum()
    first, second, third = (torch.autograd.grad(loss, latents, retain_graph=True)[0] for _ in range(3))
    assert torch.equal(first, second) and torch.equal(first, third)


@pytest.mark.parametrize("level", LEVELS)
def test_checkpointing_gives_the_same_gradient_and_a_second_derivative_raises(level):
    decoder = decoder_of((16, 32))
    latents = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(decoder(latents, LEVELS[level]).square().sum(), latents)
    images = checkpoint(lambda latents: decoder(latents, LEVELS[level]), latents, use_reentrant=False)
    loss = images.square().sum()
    for _ in range(2):
        assert torch.allclose(torch.autograd.grad(loss, latents, retain_graph=True)[0], wanted, rtol=1e-12)
    (first,) = torch.autograd.grad(loss, latents, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(first.sum() + latents.sum(), latents)
