"""Bytes kept per step and the decoder's peak, at the full size of Stable Diffusion 1.5 and XL: nothing runs."""

import functools

import pytest
import torch

from diffexplain_fast.engine.lean.decoder import LeanDecoder
from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.counting import count
from diffexplain_fast.models.public import PUBLIC, public_models

pytestmark = pytest.mark.slow
MIB = 2**20
DTYPE = torch.bfloat16


def meta(*shape):
    return torch.empty(shape, dtype=DTYPE, device="meta")


@functools.cache
def counted(model, level):
    """A step with guidance, batch 1, with the Triton kernels."""
    unet, _ = public_models(model, DTYPE)
    lean, size = LeanUNet(unet, "triton"), unet.config.sample_size
    text = lean.project(meta(2, PUBLIC[model].tokens, unet.config.cross_attention_dim))
    shifts = [meta(1, block.conv1.weight.shape[0]) for block in lean.resnets()]
    inputs = [meta(1, 4, size, size), *text]
    return count(lambda x, *keys: lean(x, keys, shifts, LEVELS[level]), inputs, list(unet.parameters()))


@pytest.mark.parametrize(
    ("model", "level", "limit"),
    [
        *(("sd15", "keep", 938), ("sd15", "lean", 402), ("sd15", "attend", 310)),
        *(("sdxl", "keep", 7489), ("sdxl", "lean", 2640), ("sdxl", "attend", 1815)),
    ],
)
def test_a_step_keeps_no_more_bytes_than_its_level_allows(model, level, limit):
    assert counted(model, level).kept <= limit * MIB


def test_cross_attention_keeps_queries_or_output_but_not_both():
    """With 1280 channels products are kept at all of these; there the output of cross-attention is kept too."""
    lean, attend = counted("sd15", "lean"), counted("sd15", "attend")
    rows = 2 * 4096 * 320 * DTYPE.itemsize  # of one layer at the largest size; the next have half and a quarter
    outputs = 5 * (rows + rows // 2 + rows // 4) + rows // 8
    # What attention adds to the level: the output of self-attention, its log-sum-exp, and one of two of the cross.
    assert lean.kept - attend.kept == pytest.approx(2 * outputs, rel=0.05)


ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
LEVELS_OF_STEPS = ("keep", "narrow", "lean", "attend", "block")


@functools.cache
def counted_with_lora(level):
    """The same step of Stable Diffusion 1.5 with LoRA of rank 16, and the bytes of its gradients."""
    unet, _ = public_models("sd15", DTYPE)
    unet.add_adapter(pytest.importorskip("peft").LoraConfig(r=16, target_modules=ATTENTION))
    unet.to(DTYPE).eval()
    lean, size = LeanUNet(unet, "triton"), unet.config.sample_size
    text = lean.project(meta(2, PUBLIC["sd15"].tokens, unet.config.cross_attention_dim))
    shifts = [meta(1, block.conv1.weight.shape[0]) for block in lean.resnets()]
    inputs = [meta(1, 4, size, size), *(part.detach() for part in text)]
    trained = lean.trained()
    assert len(trained) == 2 * 16 * 8
    found = count(lambda x, *keys: lean(x, keys, shifts, LEVELS[level]), inputs, list(unet.parameters()))
    # Of each matrix one step's gradient, which the peak has, the sum in float32, and what is handed over.
    return found, sum(6 * matrix.numel() for matrix in trained)


@pytest.mark.parametrize("level", LEVELS_OF_STEPS)
def test_lora_keeps_nothing_more(level):
    """Rank 16 on all attention projections: nothing beside what the level keeps, and thin gradients."""
    frozen, (trained, gradients) = counted("sd15", level), counted_with_lora(level)
    assert trained.kept == frozen.kept
    assert trained.peak + gradients <= 1.25 * frozen.peak
    assert frozen.total < trained.total < 1.1 * frozen.total


@functools.cache
def counted_decoder(level):
    """The decoder at 512 x 512, with the Triton kernels."""
    _, vae = public_models("sd15", DTYPE)
    decoder = LeanDecoder(vae, "triton")
    return count(lambda latents: decoder(latents, LEVELS[level]), [meta(1, 4, 64, 64)], list(vae.parameters()))


def test_the_decoder_in_bands_peaks_below_500_mib():
    """All that lives at any time of its forward and backward, the largest block's work included."""
    peaks = [counted_decoder(level).peak for level in ("keep", "slim", "block", "bands")]
    assert peaks == sorted(peaks, reverse=True) and peaks[-1] <= 500 * MIB


def test_a_slim_decoder_computes_the_first_convolutions_of_its_last_two_stages_again():
    """Those of 512 x 512 and 256 x 256 pixels, the first of which have 256 channels in place of 512 and of 128."""
    keep, slim = counted_decoder("keep"), counted_decoder("slim")
    side, taps = 512, 9
    last = side**2 * 128 * (256 + 128 + 128) * 2 * taps
    before = (side // 2) ** 2 * 256 * (256 + 256) * 2 * taps  # its first block has 512 channels, and is kept
    assert slim.total - keep.total == last + before
    assert keep.kept - slim.kept == 2 * (3 * side**2 * 128 + 2 * (side // 2) ** 2 * 256)


def test_images_apart_need_the_memory_of_one():
    _, vae = public_models("sd15", DTYPE)
    decoder, weights = LeanDecoder(vae, "triton"), list(vae.parameters())

    def counted(level, images):
        return count(lambda latents: decoder(latents, LEVELS[level]), [meta(images, 4, 64, 64)], weights)

    one, two = counted("slim", 1), counted("apart", 2)
    assert one.peak < two.peak < 1.05 * one.peak
    assert two.total == 2 * (one.total + one.forward)


@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_each_level_keeps_less_and_computes_more(model):
    counts = [counted(model, level) for level in LEVELS_OF_STEPS]
    assert [found.kept for found in counts] == sorted((found.kept for found in counts), reverse=True)
    assert [found.total for found in counts] == sorted(found.total for found in counts)
    most, lean, forward = counts[0].total, counts[2].total, counts[0].forward
    assert most <= 2.3 * forward  # of frozen weights a backward is one forward, and of attention 2.5
    assert 0.1 <= (lean - most) / forward <= 0.5  # the lean level computes no convolution or attention again
