"""The engine on a CUDA device, with whatever kernels run there, beside plain autograd on the same card."""

import copy
from unittest.mock import patch

import pytest
import torch

from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.host import flop_per_byte
from diffexplain_fast.engine.memory.resident import weight_bytes
from diffexplain_fast.engine.memory.workspaces import CUBLAS_PAIRS, cublas_bytes
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
def without_tf32(monkeypatch):
    """Convolve in float32 where float32 is asked for; products do by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
def test_errors_are_those_of_plain_autograd(dtype, gradient):
    pipe = tiny_sd()
    truth = images_and_gradient(pipe, torch.float64, "cpu", backend="reference")
    ours = images_and_gradient(pipe, dtype, "cuda", backend="fast", gradient=gradient, memory=None)
    usual = images_and_gradient(pipe, dtype, "cuda", backend="reference")
    for got, plain, wanted in zip(ours, usual, truth, strict=True):
        assert relative(got, wanted) <= 2 * relative(plain, wanted) + 8 * torch.finfo(dtype).eps


def test_a_mean_over_many_pixels_has_its_gradient_in_float16():
    """Its gradients of the images are so small that their scale is beyond float16."""
    pipe = tiny_sd()
    pipe.unet.to("cuda", torch.float16), pipe.vae.to("cuda", torch.float16)
    found = []
    for factor in (1.0, 2.0**-16):
        prompt = embeds(dtype=torch.float64).to("cuda", torch.float16).requires_grad_()
        images = sampler_of(pipe, backend="fast", guidance_scale=1.0)(prompt, latents=torch.ones(1, 4, 8, 8).to(prompt))
        found.append(torch.autograd.grad(images, prompt, torch.full_like(images, factor))[0].double())
    assert relative(found[1] * 2.0**16, found[0]) <= 0.05


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
    found = samplers[1].record()
    assert found["cuda_graphs"] == "replayed"
    for part in ("forward", "gradient"):
        assert found[f"replay_{part}_distance"] <= found[f"replay_{part}_bound"] <= 0.5


def flags(seen):
    """A hook that notes cuDNN's settings."""
    cudnn = torch.backends.cudnn
    return lambda *_: seen.append((cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("benchmark", [False, True])
def test_cudnn_stays_on_with_the_callers_tf32_and_searches_where_shapes_repeat(
    deterministic, tf32, benchmark, monkeypatch
):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    seen, call = [], LeanUNet.__call__
    note = flags(seen)
    monkeypatch.setattr(LeanUNet, "__call__", lambda self, *given: (note(), call(self, *given))[1])
    pipe = tiny_sd()
    pipe.unet.to("cuda"), pipe.vae.to("cuda")
    options = {"backend": "fast", "memory": None, "gradient": "checkpointed", "deterministic": deterministic}
    sampler = sampler_of(pipe, **options, cuda_graphs="auto")
    calls = []
    for seed in range(3):
        seen.clear()
        prompt = embeds(seed=seed).to("cuda").requires_grad_()
        images = sampler(prompt, embeds(seed=9).to("cuda"), generator=torch.Generator().manual_seed(seed))
        torch.autograd.grad(images.sum(), prompt)
        calls.append(set(seen))
        assert torch.backends.cudnn.benchmark == benchmark and not torch.backends.cudnn.deterministic
    searched = [False, False] if deterministic else [benchmark, True]
    assert calls == [{(True, tf32, search, deterministic)} for search in searched] + [set()]
    assert sampler.record()["cuda_graphs"] == "replayed"


def test_a_product_takes_the_workspace_that_plans_count():
    torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    one = torch.ones(64, 64, device="cuda")
    before = torch.cuda.memory_allocated()
    two = one @ one
    taken = torch.cuda.memory_allocated() - before - two.nbytes
    assert 0 < CUBLAS_PAIRS * taken <= cublas_bytes(torch.device("cuda"))


def test_the_peak_is_within_the_plan():
    pipe = tiny_sd()
    pipe.unet.to("cuda", torch.bfloat16), pipe.vae.to("cuda", torch.bfloat16)
    others = torch.cuda.memory_allocated() - weight_bytes((pipe.unet, pipe.vae))
    sampler = sampler_of(pipe, backend="fast", memory=None, cuda_graphs=False)
    start = torch.randn(1, 4, 64, 64, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):  # the second searches
        torch.cuda.synchronize(), torch.cuda.reset_peak_memory_stats()
        prompt = embeds(dtype=torch.float64).to("cuda", torch.bfloat16).requires_grad_()
        images = sampler(prompt, embeds(seed=9, dtype=torch.float64).to("cuda", torch.bfloat16), latents=start)
        torch.autograd.grad(images.float().sum(), prompt)
    assert torch.cuda.max_memory_allocated() - others <= sampler.plan.peak


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


def test_the_measured_flop_per_byte_is_plausible():
    rate = flop_per_byte(torch.device("cuda"), torch.bfloat16)
    assert rate is not None and 10 < rate < 1e6
