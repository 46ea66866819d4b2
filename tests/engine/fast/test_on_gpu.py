"""The engine on a CUDA device, with whatever kernels run there, beside plain autograd on the same card."""

import copy
from unittest.mock import patch

import pytest
import torch

from diffexplain_fast.engine.memory.host import flop_per_byte
from tests.engine.fast.cases import levels
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd

pytestmark = pytest.mark.gpu


def images_and_gradient(pipe, dtype, device, **options):
    """Images, and the prompt's gradient of the sum of their squares, in float64 on the CPU."""
    own = copy.deepcopy(pipe)
    own.unet.to(device, dtype), own.vae.to(device, dtype)
    prompt = embeds(dtype=torch.float64).to(device, dtype).requires_grad_()
    negative = embeds(seed=1, dtype=torch.float64).to(device, dtype)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device, dtype)
    images = sampler_of(own, **options)(prompt, negative, latents=start)
    gradient = torch.autograd.grad(images.float().square().sum(), prompt)[0]
    return images.detach().double().cpu(), gradient.double().cpu()


@pytest.fixture(autouse=True)
def without_tf32():
    """Convolve in float32 where float32 is asked for; products do by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
def test_errors_are_those_of_plain_autograd(dtype, gradient):
    pipe = tiny_sd()
    truth = images_and_gradient(pipe, torch.float64, "cpu", backend="reference")
    ours = images_and_gradient(pipe, dtype, "cuda", backend="fast", gradient=gradient, memory=None)
    usual = images_and_gradient(pipe, dtype, "cuda", backend="reference")
    for got, plain, wanted in zip(ours, usual, truth, strict=True):
        assert relative(got, wanted) <= 2 * relative(plain, wanted) + 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gradient", ["full", "checkpointed", "last:1"])
@pytest.mark.parametrize("kind", ["ddim", "lcm"])
def test_a_replayed_call_gives_what_the_same_call_gives_eager(dtype, gradient, kind):
    pipe = tiny_sd()
    pipe.unet.to("cuda", dtype), pipe.vae.to("cuda", dtype)
    samplers = [
        sampler_of(pipe, kind, backend="fast", gradient=gradient, memory=None, cuda_graphs=wanted)
        for wanted in (False, True)
    ]
    for seed in range(5):
        found = []
        for sampler in samplers:
            prompt = embeds(seed=seed, dtype=torch.float64).to("cuda", dtype).requires_grad_()
            negative = embeds(seed=9, dtype=torch.float64).to("cuda", dtype)
            images = sampler(prompt, negative, generator=torch.Generator().manual_seed(seed))
            found.append((images.detach(), torch.autograd.grad(images.float().square().sum(), prompt)[0]))
        for eager, replayed in zip(*found, strict=True):
            assert relative(replayed.double(), eager.double()) <= 0.01
    assert samplers[1].record()["cuda_graphs"] == "replayed"


def test_a_recording_is_dropped_for_another_kind_and_its_memory_with_it():
    pipe = tiny_sd()
    pipe.unet.to("cuda"), pipe.vae.to("cuda")
    sampler = sampler_of(pipe, backend="fast", memory=None)

    def run(size):
        prompt = embeds().to("cuda").requires_grad_()
        images = sampler(prompt, embeds(seed=9).to("cuda"), latents=torch.randn(1, 4, size, size, device="cuda"))
        torch.autograd.grad(images.sum(), prompt)
        return sampler.record()["cuda_graphs"]

    assert [run(16) for _ in range(3)][-1] == "replayed"
    torch.cuda.synchronize(), torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    assert run(8) == "eager: the first call of its kind"
    torch.cuda.synchronize(), torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < held
    assert [run(8), run(8)] == ["replayed", "replayed"]


@pytest.mark.parametrize("wanted", [False, "auto"])
def test_equal_calls_give_equal_bits(wanted, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    pipe, options = tiny_sd(), {"backend": "fast", "memory": None, "deterministic": True, "cuda_graphs": wanted}
    found = [images_and_gradient(pipe, torch.bfloat16, "cuda", **options) for _ in range(3)]
    assert all(torch.equal(one, two) for each in found[1:] for one, two in zip(found[0], each, strict=True))


def test_steps_kept_in_host_memory_give_the_same_gradient():
    pipe = tiny_sd()
    options = {"backend": "fast", "memory": None, "cuda_graphs": False}
    wanted = images_and_gradient(pipe, torch.float32, "cuda", **options)
    with patch("diffexplain_fast.engine.memory.host._SMALL", 0), levels("host"):
        for _ in range(3):
            got = images_and_gradient(pipe, torch.float32, "cuda", **options)
            assert all(relative(one, two) <= 1e-4 for one, two in zip(got, wanted, strict=True))


def test_moving_a_byte_takes_time():
    rate = flop_per_byte(torch.device("cuda"), torch.bfloat16)
    assert rate is not None and 10 < rate < 1e6
