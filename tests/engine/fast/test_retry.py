"""Calls that are not finite in float16 and run again in a wider dtype."""

import copy

import pytest
import torch

from diffexplain_fast.engine.float16 import Finite
from diffexplain_fast.errors import NonFiniteError
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd

AGAIN = r"the forward of .* is not finite in torch.float16: the call runs again in torch."
DTYPES = [torch.bfloat16, torch.float32]


@pytest.fixture
def pipe():
    made = tiny_sd()
    return made.to(torch.float16)


def overflowing(pipe):
    """Let every prediction leave the range of float16, and of no other dtype."""
    with torch.no_grad():
        pipe.unet.conv_out.weight.mul_(2.0**15)
        pipe.unet.conv_out.bias.fill_(3e4)


def run(pipe, dtype=torch.float16, factor=1.0, **options):
    """Images and the gradients of prompt and latents, of ``factor`` times the sum of the images' squares."""
    sampler = sampler_of(pipe, **options)
    prompt = embeds(dtype=torch.float16).to(dtype).requires_grad_()
    negative = embeds(seed=1, dtype=torch.float16).to(dtype)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    images = sampler(prompt, negative, latents=start)
    return images, torch.autograd.grad(images, (prompt, start), factor * images.detach()), sampler


def truth(pipe):
    own = copy.deepcopy(pipe).to(torch.float64)
    images, gradients, _ = run(own, torch.float64, backend="reference")
    return images.detach(), *gradients


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_forward_that_overflows_runs_again_in_the_wider_dtype(pipe, dtype):
    overflowing(pipe)
    with pytest.raises(NonFiniteError):
        run(pipe, backend="fast")
    weights = [weight.clone() for weight in pipe.unet.parameters()]
    with pytest.warns(RuntimeWarning, match=AGAIN):
        images, gradients, sampler = run(pipe, backend="fast", retry_dtype=dtype, factor=2.0**-8)
    assert sampler.record()["retried_calls"] == 1
    wanted = truth(pipe)
    bound = 0.2 if dtype == torch.bfloat16 else 1e-2
    assert images.dtype == torch.float16 and relative(images.detach().double(), wanted[0]) <= bound
    assert gradients[0].dtype == torch.float16
    for got, exact in zip(gradients, wanted[1:], strict=True):
        assert relative(got.double() * 2.0**8, exact) <= bound
    assert all(map(torch.equal, weights, pipe.unet.parameters()))


def test_a_finite_call_does_not_run_again(pipe):
    (images, gradients, sampler), (same, others, _) = (
        run(pipe, backend="fast", **options) for options in ({"retry_dtype": torch.float32}, {})
    )
    assert torch.equal(images, same) and all(map(torch.equal, gradients, others))
    assert sampler.record()["retried_calls"] == 0 and sampler._engine._wider._models is None


@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
def test_a_backward_that_overflows_runs_again_in_the_wider_dtype(pipe, gradient, monkeypatch):
    check, done = Finite.check, []

    def failing(self):
        if self._direction == "backward" and not done:
            done.append(self)
            raise NonFiniteError("the backward of step 2 of 2 is not finite in torch.float16; run it in another")
        check(self)

    monkeypatch.setattr(Finite, "check", failing)
    with pytest.warns(RuntimeWarning, match="the backward of step 2 of 2 .* runs again in torch.float32"):
        _, gradients, sampler = run(pipe, backend="fast", retry_dtype=torch.float32, gradient=gradient)
    assert sampler.record()["retried_calls"] == 1
    for got, exact in zip(gradients, truth(pipe)[1:], strict=True):
        assert relative(got.double(), exact) <= 1e-2


def test_a_loss_that_is_not_finite_raises_without_a_retry(pipe):
    with pytest.raises(NonFiniteError, match="the backward of the loss is not finite"):
        run(pipe, backend="fast", retry_dtype=torch.float32, factor=float("nan"))


def test_a_call_that_is_not_finite_in_the_wider_dtype_raises(pipe):
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias.fill_(float("inf"))
    message = "the images are not finite in torch.float32 either"
    with pytest.warns(RuntimeWarning, match="the decoder"), pytest.raises(NonFiniteError, match=message):
        run(pipe, backend="fast", retry_dtype=torch.float32)


def test_copies_in_the_wider_dtype_follow_an_edit(pipe):
    overflowing(pipe)
    with pytest.warns(RuntimeWarning, match=AGAIN):
        *_, sampler = run(pipe, backend="fast", retry_dtype=torch.float32)
    with torch.no_grad():
        pipe.unet.conv_out.weight.mul_(-1)
    prompt, negative = embeds(dtype=torch.float16), embeds(seed=1, dtype=torch.float16)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    with pytest.warns(RuntimeWarning, match=AGAIN), torch.no_grad():
        images = sampler(prompt, negative, latents=start)
    assert relative(images.double(), truth(pipe)[0]) <= 1e-2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"retry_dtype": "float32"}, TypeError, "retry_dtype: wanted None, torch.bfloat16 or torch.float32, got str"),
        ({"retry_dtype": torch.float64}, ValueError, "retry_dtype: wanted None, torch.bfloat16 or torch.float32"),
        ({"retry_dtype": torch.float32, "backend": "reference"}, ValueError, "which does not retry"),
    ],
)
def test_retry_dtype_of_another_kind_or_for_the_reference_is_refused(pipe, options, error, message):
    with pytest.raises(error, match=message):
        sampler_of(pipe, **options)
