"""Equal bits from equal calls, and torch's settings as they were."""

import pytest
import torch

from diffexplain_fast.engine.lean.unet import LeanUNet
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd()


def settings():
    cudnn, memory = torch.backends.cudnn, torch.utils.deterministic
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warns, cudnn.deterministic, memory.fill_uninitialized_memory


def run(sampler):
    prompt = embeds(batch=2).requires_grad_()
    images = sampler(prompt, embeds(seed=1), generator=torch.Generator().manual_seed(0))
    return images.detach(), torch.autograd.grad(images.square().sum(), prompt)[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("gradient", ["full", "checkpointed", "detached"])
def test_equal_calls_give_equal_bits(pipe, threads, gradient):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = [run(sampler_of(pipe, backend="fast", deterministic=True, gradient=gradient)) for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for each in found[1:] for one, two in zip(found[0], each, strict=True))


@pytest.mark.parametrize("wanted", [False, True])
def test_only_the_samplers_part_is_deterministic(pipe, wanted, monkeypatch):
    seen, call = [], LeanUNet.__call__
    monkeypatch.setattr(LeanUNet, "__call__", lambda self, *given: (seen.append(settings()), call(self, *given))[1])
    before = settings()
    sampler = sampler_of(pipe, backend="fast", deterministic=wanted, gradient="checkpointed")
    prompt = embeds().requires_grad_()
    images = sampler(prompt, embeds(seed=1), generator=torch.Generator().manual_seed(0))
    forward = len(seen)
    assert settings() == before
    images.sum().backward()
    assert settings() == before and len(seen) > forward
    assert set(seen) == {(True, False, True, False)} if wanted else {before}


def test_settings_return_after_an_exception(pipe, monkeypatch):
    def broken(*_):
        raise KeyError("broken")

    monkeypatch.setattr(LeanUNet, "__call__", broken)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        before = settings()
        with pytest.raises(KeyError):
            run(sampler_of(pipe, backend="fast", deterministic=True))
        assert settings() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_other_kinds_are_refused(pipe):
    with pytest.raises(TypeError, match="deterministic: wanted True or False, got int"):
        sampler_of(pipe, deterministic=1)
    with pytest.raises(ValueError, match="deterministic: wanted False with backend='reference'"):
        sampler_of(pipe, deterministic=True, backend="reference")


def test_auto_takes_the_fast_engine_for_it():
    own = tiny_sd()
    own.unet.conv_in.register_forward_hook(lambda *_: None)
    assert sampler_of(own).backend == "reference"
    assert sampler_of(own, deterministic=True).backend == "fast"
