"""float16: adjoints kept in range by powers of two, and overflow that names its step."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffexplain_fast.engine.float16 import Finite, divided, scale_of, scaled
from diffexplain_fast.errors import NonFiniteError
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd


@pytest.fixture
def pipe():
    return tiny_sd()


def gradient_of(pipe, dtype, factor, **options):
    """The prompt's gradient of ``factor`` times the sum of the images' squares, in float64."""
    pipe.unet.to(dtype), pipe.vae.to(dtype)
    sampler = sampler_of(pipe, **options)
    prompt = embeds(dtype=dtype).requires_grad_()
    images = sampler(prompt, embeds(seed=1, dtype=dtype), generator=torch.Generator().manual_seed(0))
    return torch.autograd.grad(images, prompt, factor * images.detach())[0].double()


@pytest.mark.parametrize("factor", [2.0**-16, 1.0, 2.0**8], ids=["small", "one", "large"])
def test_small_and_large_gradients_survive(pipe, factor):
    """Unscaled, the small one would lose its digits on the way."""
    truth = gradient_of(pipe, torch.float64, 1.0, backend="reference")
    got = gradient_of(pipe, torch.float16, factor, backend="fast")
    usual = gradient_of(pipe, torch.float16, 1.0, backend="reference")
    # The result itself is float16: its own spacing is part of what a small gradient may err.
    spacing = 2.0**-24 / factor / truth.abs().max() * truth.numel() ** 0.5 / 4
    assert relative(got / factor, truth) <= 2 * relative(usual, truth) + float(spacing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_other_dtypes_are_left_alone(dtype):
    assert scale_of([torch.tensor([1e-30])], dtype) == 1.0
    adjoint = torch.ones(2, dtype=dtype)
    assert scaled(adjoint, 1.0) is adjoint and divided(adjoint, 1.0) is adjoint


@pytest.mark.parametrize("value", [1e-30, 3e-7, 1.0, 65504.0, 1e20])
def test_scales_are_powers_of_two_and_cost_no_digit(value):
    adjoint = torch.tensor([value, -value / 3])
    scale = scale_of([adjoint, adjoint / 100], torch.float16)
    assert 32 <= scaled(adjoint, scale).abs().max() <= 64
    assert torch.frexp(scale).mantissa == 0.5 and torch.equal(divided(scaled(adjoint, scale), scale), adjoint)


class AsOnAGpu(TorchDispatchMode):
    """Converts both factors to the dtype of the result first, which a CPU does not do with one number."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mul.Tensor, torch.ops.aten.div.Tensor):
            args = [torch.as_tensor(factor).to(torch.result_type(*args)) for factor in args]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("value", [2.0**-24, 2.0**-20, 2.0**-14, 1.0, 2.0**15])
def test_small_gradients_of_float16_images_are_scaled_as_on_a_gpu(value):
    """Such as those of a mean over all pixels."""
    adjoint = torch.tensor([value, -value / 2 if value > 2.0**-24 else 0.0], dtype=torch.float16)
    with AsOnAGpu():
        scale = scale_of([adjoint], torch.float16)
        up = scaled(adjoint, scale)
        assert torch.equal(divided(up, scale), adjoint)
    assert up.dtype == torch.float16 and 32 <= up.abs().max() <= 64


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan")])
def test_zeros_and_adjoints_that_are_not_finite_are_not_scaled(value):
    assert scale_of([torch.tensor([value])], torch.float16) == 1.0


def overflowing(pipe, number):
    """Let the denoiser's call of this number overflow."""
    calls = iter(range(1000))

    def hook(module, given, output):
        return (output[0] * (1e30 if next(calls) == number else 1.0),)

    pipe.unet.register_forward_hook(hook)


def test_overflow_names_its_step(pipe):
    pipe.unet.half(), pipe.vae.half()
    overflowing(pipe, 1)
    message = r"the forward of step 2 of 2 \(timestep [0-9]+\) is not finite in torch\.float16; run the models in bfl"
    with pytest.raises(NonFiniteError, match=message):
        gradient_of(pipe, torch.float16, 1.0, backend="fast")


def test_a_loss_that_is_not_finite_is_named(pipe):
    with pytest.raises(NonFiniteError, match=r"the backward of the loss is not finite in torch\.float16"):
        gradient_of(pipe, torch.float16, float("nan"), backend="fast")


def test_the_first_of_several_is_named():
    finite = Finite("backward", torch.float16)
    finite.note("a", [torch.ones(2), None])
    finite.check()
    finite.note("b", [torch.ones(1), torch.tensor([1.0, float("inf")])])
    finite.note("c", [torch.tensor([float("nan")])])
    with pytest.raises(NonFiniteError, match="the backward of b is not finite"):
        finite.check()


def test_nothing_is_noted_in_other_dtypes():
    finite = Finite("forward", torch.bfloat16)
    finite.note("a", [torch.tensor([float("nan")])])
    finite.check()
