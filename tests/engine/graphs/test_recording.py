"""Calls recorded and replayed, with a recorder that runs the recorded function again, on the CPU.

Like a CUDA graph it fixes the Python values and the tensors that were read, and fills the same results; unlike one it
needs no GPU. ``test_on_gpu.py`` has the real one.
"""

import gc
import weakref

import pytest
import torch

from diffexplain_fast.engine.float16 import Finite
from diffexplain_fast.engine.graphs.policy import Graphs
from tests.engine.fast.cases import Case, arguments_of, assert_close, inputs_of, results, sampler_for
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd

FIRST, REPLAYED = "eager: the first call of its kind", "replayed"
BUSY = "eager: the call before may still go backward through the recording"


def flat(result):
    """The tensors of what a recorded function returned."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, Finite):
        return flat(result._flags)
    return [tensor for part in result or () for tensor in flat(part)]


class Rerun:
    """Replays by running the function again."""

    devices = ("cpu",)
    recorded = 0

    def __init__(self, device):
        Rerun.recorded += 1

    def warm(self, function):
        return function()

    def record(self, function):
        result, caches = function(), torch.is_autocast_cache_enabled()

        def replay():
            now = torch.is_autocast_cache_enabled()
            torch.set_autocast_cache_enabled(caches)  # a graph repeats what ran when it was recorded
            for old, new in zip(flat(result), flat(function()), strict=True):
                old.copy_(new)
            torch.set_autocast_cache_enabled(now)

        return torch.no_grad()(replay), result


class Forgetful(Rerun):
    """Replays nothing: every result stays what it was when it was recorded."""

    def record(self, function):
        return (lambda: None), function()


class Failing(Rerun):
    """Records nothing."""

    def record(self, function):
        raise RuntimeError("operation not permitted when stream is capturing\nmore about it")


@pytest.fixture(autouse=True)
def count():
    Rerun.recorded = 0


def graphed(sampler, recorder=Rerun, wanted="auto"):
    """Let a sampler record on the CPU."""
    sampler._engine._graphs = Graphs(wanted, recorder)
    return sampler


def state(sampler):
    return sampler.record()["cuda_graphs"]


def states_of(sampler, calls):
    """Run calls, compare each with plain autograd; what the graphs did in each."""
    found = []
    for case, given in calls:
        wanted = arguments_of(case)
        assert_close(results(sampler, given, wanted), results(sampler_for(case, "reference"), given, wanted))
        found.append(state(sampler))
    return found


CASES = [
    Case(),
    Case("sd15", "lcm", steps=3, guidance=1.0),
    Case("sd2", "dpm", steps=4, batch=3),
    Case("sdxl", "euler"),
    Case("tinyworld", gradient="checkpointed"),
    Case(steps=3, gradient="last:1"),
    Case(steps=3, gradient="shortcut:2"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_replay_with_another_prompt_and_noise_is_exact(case):
    sampler = graphed(sampler_for(case, "fast", memory=None))
    calls = [(case, inputs_of(case.model, case.batch, seed=seed)) for seed in range(4)]
    assert states_of(sampler, calls) == [FIRST, REPLAYED, REPLAYED, REPLAYED]
    assert Rerun.recorded == 1


@pytest.mark.parametrize("wanted", [("prompt_embeds",), ("latents",)], ids=str)
def test_calls_with_equal_noise_are_of_the_same_kind(wanted):
    """Nothing is kept from one call to the next, so equal noise and negative prompts change no recording."""
    case, found = Case(), []
    sampler = graphed(sampler_for(case, "fast", memory=None))
    for seed in range(3):
        given = inputs_of("sd15", seed=seed) | {"latents": inputs_of("sd15", seed=0)["latents"]}
        given["negative_prompt_embeds"] = inputs_of("sd15", seed=0)["negative_prompt_embeds"]
        truth = results(sampler_for(case, "reference"), given, wanted)
        assert_close(results(sampler, given, wanted), truth)
        found.append(state(sampler))
    assert found == [FIRST, REPLAYED, REPLAYED]


def test_a_call_of_another_kind_is_not_replayed(monkeypatch):
    """Batch, size, what carries a gradient, guidance and precision settings: nothing is replayed for another."""
    case = Case()
    sampler = graphed(sampler_for(case, "fast", memory=None))
    one = inputs_of("sd15")
    wide = one | {"latents": torch.randn(1, 4, 8, 12, dtype=torch.float64)}
    calls = [(case, one)] * 2 + [(case, inputs_of("sd15", batch=3))] + [(case, wide)] * 2 + [(case, one)]
    assert states_of(sampler, calls) == [FIRST, REPLAYED, FIRST, FIRST, REPLAYED, FIRST]
    sampler.guidance_scale = 5.0
    assert states_of(sampler, [(case._replace(guidance=5.0), one)]) == [REPLAYED]  # a number on the device
    sampler.guidance_scale = 1.0
    assert states_of(sampler, [(case._replace(guidance=1.0), one)]) == [FIRST]
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    assert states_of(sampler, [(case._replace(guidance=1.0), one)]) == [FIRST]


def test_without_a_gradient_nothing_is_recorded_and_nothing_lost():
    case, given = Case(), inputs_of("sd15")
    sampler = graphed(sampler_for(case, "fast", memory=None))
    assert states_of(sampler, [(case, given)] * 2) == [FIRST, REPLAYED]
    with torch.no_grad():
        sampler(**inputs_of("sd15", batch=3))
    assert states_of(sampler, [(case, given)]) == [REPLAYED] and Rerun.recorded == 1


def pull(images, prompt):
    return torch.autograd.grad(images.square().mean(), prompt)[0]


def test_two_calls_before_a_backward_do_not_share_a_recording():
    pipe = tiny_sd().to(torch.float64)
    eager, sampler = (sampler_of(pipe, backend="fast", memory=None) for _ in range(2))
    graphed(sampler)
    negative = embeds(seed=9, dtype=torch.float64)
    prompts = [embeds(seed=seed, dtype=torch.float64).requires_grad_() for seed in range(4)]

    def draw(made, number):
        return made(prompts[number], negative, generator=torch.Generator().manual_seed(number))

    wanted = [pull(draw(eager, number), prompts[number]) for number in range(4)]
    for number in (0, 1):
        assert torch.equal(pull(draw(sampler, number), prompts[number]), wanted[number])
    first = draw(sampler, 2)
    assert state(sampler) == REPLAYED
    second = draw(sampler, 3)
    assert state(sampler) == BUSY
    assert torch.equal(pull(first, prompts[2]), wanted[2]) and torch.equal(pull(second, prompts[3]), wanted[3])
    third = draw(sampler, 2)  # never goes backward
    assert state(sampler) == REPLAYED
    del third
    gc.collect()
    assert torch.equal(pull(draw(sampler, 3), prompts[3]), wanted[3]) and state(sampler) == REPLAYED


def test_images_and_gradients_are_not_overwritten_by_the_next_replay():
    sampler, given = graphed(sampler_for(Case(), "fast", memory=None)), inputs_of("sd15")
    noises = torch.randn(4, *given["latents"].shape, dtype=torch.float64)
    found = [results(sampler, given | {"latents": noise}, ("prompt_embeds",)) for noise in noises]
    assert state(sampler) == REPLAYED
    for name in ("images", "prompt_embeds"):
        assert not torch.equal(found[2][name], found[3][name])


def test_an_edited_model_is_recorded_again():
    pipe = tiny_sd().to(torch.float64)
    sampler = graphed(sampler_of(pipe, backend="fast", memory=None))
    reference = sampler_of(pipe, backend="reference")
    prompt = embeds(dtype=torch.float64).requires_grad_()
    for number in range(6):
        if number == 3:
            with torch.no_grad():
                pipe.unet.conv_in.weight.mul_(1.1)
        negative, found = embeds(seed=1, dtype=torch.float64), []
        for made in (sampler, reference):
            found.append(pull(made(prompt, negative, generator=torch.Generator().manual_seed(number)), prompt))
        got, wanted = found
        assert (got - wanted).norm() <= 1e-10 * wanted.norm()
        assert state(sampler) == (FIRST if number in (0, 3) else REPLAYED)


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Forgetful, "recording failed: its replay gave something else than the call itself, the forward is"),
        (Failing, "recording failed: operation not permitted when stream is capturing"),
    ],
)
def test_a_call_that_cannot_be_recorded_runs_eager_and_says_why(recorder, reason):
    case, calls = Case(), [(Case(), inputs_of("sd15", seed=seed)) for seed in range(4)]
    sampler = graphed(sampler_for(case, "fast", memory=None), recorder)
    first, *found = states_of(sampler, calls)
    assert first == FIRST and len(set(found)) == 1 and found[0].startswith(f"eager: {reason}")
    assert Rerun.recorded == 1
    sampler = graphed(sampler_for(case, "fast", memory=None), recorder, wanted=True)
    assert states_of(sampler, calls[:1]) == [FIRST]
    with pytest.raises(ValueError, match=f"cuda_graphs: wanted a call that can be recorded, or 'auto', got {reason}"):
        states_of(sampler, calls[1:2])


def test_models_that_run_through_their_own_modules_are_not_recorded():
    pipe = tiny_sd().to(torch.float64)
    pipe.unet.conv_in.register_forward_hook(lambda *_: None)
    sampler = graphed(sampler_of(pipe, backend="fast", memory=None))
    for _ in range(2):
        prompt = embeds(dtype=torch.float64).requires_grad_()
        pull(sampler(prompt, embeds(dtype=torch.float64), generator=torch.Generator()), prompt)
    assert state(sampler).startswith("eager: the UNet runs through its own modules") and Rerun.recorded == 0


def test_nothing_is_recorded_on_the_cpu():
    case = Case()
    sampler = sampler_for(case, "fast", memory=None)
    assert states_of(sampler, [(case, inputs_of("sd15"))]) == [
        "eager: graphs need tensors on a CUDA device, not on cpu"
    ]
    off = sampler_for(case, "fast", memory=None, cuda_graphs=False)
    assert states_of(off, [(case, inputs_of("sd15"))]) == ["eager: switched off"]
    asked = sampler_for(case, "fast", memory=None, cuda_graphs=True)
    with pytest.raises(ValueError, match="cuda_graphs: wanted a call that can be recorded"):
        results(asked, inputs_of("sd15"), ("prompt_embeds",))
    with torch.no_grad():
        asked(**inputs_of("sd15"))


def test_a_recording_is_freed_with_its_sampler():
    sampler, given = graphed(sampler_for(Case(), "fast", memory=None)), inputs_of("sd15")
    for seed in range(2):
        results(sampler, inputs_of("sd15", seed=seed), ("prompt_embeds",))
    images = weakref.ref(sampler._engine._graphs._recording._outcome.tensors[0])
    del sampler, given
    gc.collect()
    assert images() is None


@pytest.mark.parametrize("bad", [1, None])
def test_cuda_graphs_that_is_neither_bool_nor_text_is_refused(bad):
    with pytest.raises(TypeError, match="cuda_graphs: wanted True, False or 'auto', got"):
        sampler_for(Case(), "fast", cuda_graphs=bad)


def test_cuda_graphs_with_an_unknown_text_or_for_the_reference_is_refused():
    with pytest.raises(ValueError, match="cuda_graphs: wanted True, False or 'auto', got 'always'"):
        sampler_for(Case(), "fast", cuda_graphs="always")
    with pytest.raises(ValueError, match="cuda_graphs: wanted 'auto' or False with backend='reference'"):
        sampler_for(Case(), "reference", cuda_graphs=True)
