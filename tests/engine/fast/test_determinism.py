"""Equal bits from equal calls, and torch's settings as they were."""

import itertools
import threading

import pytest
import torch
from torch._inductor import config as inductor

from diffexplain_fast.engine.fast.determinism import determinism
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.search import AlgorithmSearch
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd()


def settings():
    """All that torch's threads share of what decides how a call computes."""
    cudnn, memory = torch.backends.cudnn, torch.utils.deterministic
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    own = algorithms, memory.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark
    precisions = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    return *own, (cudnn.enabled, *precisions, inductor.deterministic)


DETERMINISTIC = ((True, False), False, True, False)


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
    assert set(seen) == {(*DETERMINISTIC, before[-1]) if wanted else before}


@pytest.fixture
def callers_own():
    """A caller who chose otherwise in everything; conv and rnn differ, which torch's legacy getters refuse to read."""
    cudnn, conv = torch.backends.cudnn, torch.backends.cudnn.conv
    before = cudnn.benchmark, conv.fp32_precision
    cudnn.benchmark, conv.fp32_precision, inductor.deterministic = True, "ieee", True
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    cudnn.benchmark, conv.fp32_precision = before


def test_settings_of_the_caller_hold_inside_and_afterwards(pipe, callers_own, monkeypatch):
    seen, call = [], LeanUNet.__call__
    monkeypatch.setattr(LeanUNet, "__call__", lambda self, *given: (seen.append(settings()), call(self, *given))[1])
    before = settings()
    assert before[3] and before[-1][1] == "ieee"
    run(sampler_of(pipe, backend="fast", deterministic=True, gradient="checkpointed"))
    assert settings() == before and set(seen) == {(*DETERMINISTIC, before[-1])}


def searching():
    return AlgorithmSearch.on(torch.device("cuda"))


CONTEXTS = {"deterministic": lambda: determinism(True), "searching": searching}


@pytest.mark.parametrize("nested", list(itertools.product(CONTEXTS, repeat=3)), ids="-".join)
def test_nested_contexts_put_back_the_settings_before_each(nested):
    found = [settings()]
    with pytest.raises(KeyError):
        _nest([CONTEXTS[name] for name in nested], found)
    assert settings() == found[0]
    assert [each[3] for each in found[1:]] == ["deterministic" not in nested[: i + 1] for i in range(3)]


def _nest(contexts, found):
    """Open contexts in one another; each finds its settings again when the inner one has failed."""
    if not contexts:
        raise KeyError("a failure inside")
    with contexts[0]():
        found.append(inside := settings())
        try:
            _nest(contexts[1:], found)
        finally:
            assert settings() == inside


@pytest.mark.parametrize("leave", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("enter", [("searching", "deterministic", "searching"), ("deterministic", "searching") * 2])
def test_contexts_that_overlap_in_threads_leave_nothing_behind(enter, leave):
    before, gates, opened, threads = settings(), [], [], []

    def hold(name, entered, gate):
        with CONTEXTS[name]():
            entered.set()
            gate.wait(10)

    for name in enter[:3]:
        entered, gate = threading.Event(), threading.Event()
        threads.append(threading.Thread(target=hold, args=(name, entered, gate)))
        threads[-1].start()
        assert entered.wait(10)
        gates.append(gate)
        opened.append(name)
        assert settings()[3] == ("deterministic" not in opened)
    assert settings()[:4] == DETERMINISTIC
    alive = set(range(3))
    for i in leave:
        gates[i].set()
        threads[i].join(10)
        alive.discard(i)
        if any(enter[j] == "deterministic" for j in alive):
            assert settings()[:4] == DETERMINISTIC
    assert settings() == before


def test_the_search_is_on_from_the_second_call_of_a_kind(pipe, monkeypatch):
    monkeypatch.setattr(AlgorithmSearch, "devices", ("cpu",))
    seen, call = [], LeanUNet.__call__
    monkeypatch.setattr(LeanUNet, "__call__", lambda self, *given: (seen.append(settings()[3]), call(self, *given))[1])
    sampler, before = sampler_of(pipe, backend="fast", gradient="checkpointed", guidance_scale=1.0), settings()

    def searched(batch):
        seen.clear()
        prompt = embeds(batch=batch).requires_grad_()
        images = sampler(prompt, generator=torch.Generator().manual_seed(0))
        torch.autograd.grad(images.sum(), prompt)
        assert settings() == before and len(seen) == 4  # two steps, and again in the backward
        (found,) = set(seen)
        return found

    assert [searched(batch) for batch in (1, 1, 2, 1, 2)] == [False, True, False, True, True]
    with torch.no_grad():
        sampler(embeds())
    assert not seen[-1]
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    before = settings()
    assert not searched(1)


def test_the_search_is_for_cudnn_only():
    before = settings()
    with AlgorithmSearch.on(torch.device("cpu")):
        assert settings() == before
    with searching():
        assert settings() == (*before[:3], True, before[-1])


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


def test_deterministic_that_is_not_a_bool_or_for_the_reference_is_refused(pipe):
    with pytest.raises(TypeError, match="deterministic: wanted True or False, got int"):
        sampler_of(pipe, deterministic=1)
    with pytest.raises(ValueError, match="deterministic: wanted False with backend='reference'"):
        sampler_of(pipe, deterministic=True, backend="reference")


def test_auto_takes_the_fast_engine_for_deterministic_calls():
    own = tiny_sd()
    own.unet.conv_in.register_forward_hook(lambda *_: None)
    assert sampler_of(own).backend == "reference"
    assert sampler_of(own, deterministic=True).backend == "fast"
