"""What users do to a sampler between its forward and its backward, and from call to call."""

import copy
import gc

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from diffexplain_fast.engine.memory.counting import live_bytes
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd

F64 = torch.float64


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd().to(F64)


def images_of(sampler, prompt, dtype=F64, seed=0, size=None, batch=1):
    """Images of a prompt with a negative prompt of its own."""
    start = None
    if size is not None:
        noise = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed), dtype=F64)
        start = noise.to(dtype)
    draw = torch.Generator().manual_seed(seed)
    return sampler(prompt, embeds(seed=9, dtype=dtype), latents=start, generator=draw)


def pull(images, prompt):
    return torch.autograd.grad(images.square().mean(), prompt)[0]


def both(sampler, seed=0, **options):
    """Images and the prompt's gradient."""
    prompt = embeds(options.get("batch", 1), seed=seed, dtype=options.get("dtype", F64)).requires_grad_()
    images = images_of(sampler, prompt, seed=seed, **options)
    return images.detach(), pull(images, prompt)


CALLS = [{}, {"size": (8, 12)}, {"size": (8, 12), "batch": 3}, {"seed": 4}, {"size": (4, 4), "seed": 2}]
CALLS += [{"size": (9, 7)}, {"size": (1, 4), "batch": 2}, {}]  # the skip connections have odd sizes


@pytest.mark.parametrize("memory", [None, pytest.param("1GiB", marks=pytest.mark.slow)])
def test_shapes_batches_and_prompts_change_from_call_to_call(pipe, memory):
    fast, plain = sampler_of(pipe, backend="fast", memory=memory), sampler_of(pipe, backend="reference")
    for options in CALLS:
        assert max(map(relative, both(fast, **options), both(plain, **options))) <= 1e-10


def test_steps_guidance_and_schedulers_change_between_samplers_of_one_pipeline(pipe):
    options = [
        {},
        {"num_inference_steps": 4},
        {"guidance_scale": 1.0},
        {"guidance_scale": 7.5, "kind": "euler"},
        {"kind": "dpm"},
        {"gradient": "last:1"},
        {},
    ]
    for each in options:
        fast, plain = (sampler_of(pipe, backend=backend, **each) for backend in ("fast", "reference"))
        assert max(map(relative, both(fast), both(plain))) <= 1e-10


def test_the_guidance_scale_of_a_sampler_may_be_set_anew(pipe):
    fast, plain = (sampler_of(pipe, backend=backend) for backend in ("fast", "reference"))
    for scale in (3.0, 5.0, 1.0, 3.0):
        fast.guidance_scale = plain.guidance_scale = scale
        assert max(map(relative, both(fast), both(plain))) <= 1e-10


def test_the_dtype_of_the_models_changes(pipe):
    own = copy.deepcopy(pipe)
    fast = sampler_of(own, backend="fast")
    for dtype, bound in ((F64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.3), (F64, 1e-6)):
        own.unet.to(dtype), own.vae.to(dtype)
        images, gradient = both(fast, dtype=dtype)
        assert images.dtype == gradient.dtype == dtype
        wanted = both(sampler_of(own, backend="reference"), dtype=dtype)
        assert max(map(relative, (images, gradient), wanted)) <= bound


def test_two_samplers_take_turns(pipe):
    one = sampler_of(pipe, backend="fast")
    two = sampler_of(pipe, backend="fast", num_inference_steps=3, kind="euler")
    wanted = [both(one), both(two, seed=1)]
    prompts = [embeds(seed=seed, dtype=F64).requires_grad_() for seed in (0, 1)]
    first = images_of(one, prompts[0])
    second = images_of(two, prompts[1], seed=1)
    assert torch.equal(pull(first, prompts[0]), wanted[0][1]) and torch.equal(pull(second, prompts[1]), wanted[1][1])


def test_two_graphs_of_one_sampler_end_in_any_order(pipe):
    sampler = sampler_of(pipe, backend="fast")
    wanted = [both(sampler, seed=seed)[1] for seed in (0, 1)]
    prompts = [embeds(seed=seed, dtype=F64).requires_grad_() for seed in (0, 1)]
    made = [images_of(sampler, prompt, seed=seed) for seed, prompt in enumerate(prompts)]
    for number in (0, 1):
        assert torch.equal(pull(made[number], prompts[number]), wanted[number])


def failing_loss(images):
    raise KeyError(f"a mistake in the user's loss over {images.shape}")


@pytest.mark.parametrize("end", ["no backward", "a failing loss", "a failing backward"])
def test_no_tensor_of_a_call_outlives_it(pipe, end):
    sampler = sampler_of(pipe, backend="fast")
    wanted = both(sampler)
    prompt = embeds(dtype=F64).requires_grad_()
    gc.collect()
    with live_bytes() as live:
        for _ in range(3):
            images = images_of(sampler, prompt)
            kept = live.now
            if end == "a failing loss":
                with pytest.raises(KeyError):
                    failing_loss(images)
            if end == "a failing backward":
                images.register_hook(failing_loss)
                with pytest.raises(KeyError):
                    images.sum().backward()
            del images
            gc.collect()
            assert live.now < 0.05 * kept
    assert all(map(torch.equal, both(sampler), wanted))


def test_a_prompt_changed_in_place_before_the_backward_does_not_change_the_gradient(pipe):
    """The prompt's values are not needed again; those of the start noise neither."""
    sampler, prompt = sampler_of(pipe, backend="fast"), embeds(dtype=F64).requires_grad_()
    wanted = both(sampler)[1]
    images = images_of(sampler, prompt)
    with torch.no_grad():
        prompt.mul_(2)
    assert torch.equal(pull(images, prompt), wanted)


def test_a_call_in_inference_mode_does_not_spoil_later_gradients(pipe):
    sampler = sampler_of(pipe, backend="fast")
    with torch.inference_mode():
        quiet = images_of(sampler, embeds(dtype=F64))
    images, gradient = both(sampler)
    assert all(map(torch.equal, (images, gradient), both(sampler_of(pipe, backend="fast"))))
    # A call that records a graph runs the unconditional rows by themselves, and products of fewer rows sum otherwise.
    assert relative(images, quiet) <= 1e-14
    with torch.no_grad():
        assert torch.equal(images_of(sampler_of(pipe, backend="fast"), embeds(dtype=F64)), quiet)


def test_an_odd_size_in_inference_mode_does_not_spoil_later_gradients(pipe):
    """What is made for such a size at its first call serves calls that record a graph too."""
    sampler, size = sampler_of(pipe, backend="fast"), (9, 7)
    with torch.inference_mode():
        images_of(sampler, embeds(dtype=F64), size=size)
    wanted = both(sampler_of(pipe, backend="reference"), size=size)
    assert max(map(relative, both(sampler, size=size), wanted)) <= 1e-10


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("own_modules", [False, True])
def test_a_prompt_encoded_in_inference_mode_serves_a_gradient_of_the_latents(guidance, own_modules):
    made = tiny_sd().to(F64)
    if own_modules:
        made.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    latents = torch.ones(1, 4, 8, 8, dtype=F64, requires_grad=True)
    with torch.inference_mode():
        prompts = embeds(dtype=F64), embeds(seed=9, dtype=F64)
    wanted, got = (
        pull(sampler_of(made, backend="fast", guidance_scale=guidance)(*given, latents=latents), latents)
        for given in (map(torch.clone, prompts), prompts)
    )
    assert torch.equal(got, wanted)


def test_autocast_around_call_and_backward_changes_nothing():
    made = tiny_sd()
    sampler = sampler_of(made, backend="fast")
    wanted = both(sampler, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, both(sampler, dtype=torch.float32), wanted))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # by Dynamo
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_a_compiled_function_around_call_and_backward_leaves_the_engine_alone(pipe, backend):
    """Dynamo would trace thousands of frames of the engine, which takes minutes, for nothing."""
    sampler = sampler_of(pipe, backend=backend)

    def step(prompt):
        leaf = prompt.detach().requires_grad_()
        (images_of(sampler, leaf) * 2).square().mean().backward()
        return 3 * leaf.grad

    torch._dynamo.reset()
    compiler = CompileCounter()
    assert torch.equal(torch.compile(step, backend=compiler)(embeds(dtype=F64)), step(embeds(dtype=F64)))
    assert 1 <= compiler.frame_count <= 6
    torch._dynamo.reset()


class Looking(TorchDispatchMode):
    """Reads the result of every operation, as tools that look for NaN do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return looked(func(*args, **(kwargs or {})))


class LookingEarlier(TorchFunctionMode):
    """Does so one layer above."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return looked(function(*args, **(kwargs or {})))


def looked(out):
    if isinstance(out, torch.Tensor) and out.is_floating_point():
        out.detach().flatten()[:1].tolist()
    return out


WATCHING = {
    "saved tensors on the cpu": torch.autograd.graph.save_on_cpu,
    "anomaly detection": torch.autograd.detect_anomaly,
    "a mode of dispatch": Looking,
    "a mode of functions": LookingEarlier,
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("own_modules", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("watching", WATCHING)
def test_tools_that_read_every_tensor_do_not_meet_the_tensors_of_a_plan(watching, own_modules):
    """Plans are counted on tensors without numbers, inside the call that the caller watches."""
    made = tiny_sd().to(F64)
    if own_modules:
        made.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    wanted = both(sampler_of(made, backend="fast"))
    sampler = sampler_of(made, backend="fast", memory="64MiB")
    with WATCHING[watching]():
        got = both(sampler)
        with pytest.raises(ValueError, match="memory: wanted at least"):  # counts every level
            both(sampler_of(made, backend="fast", memory="1MiB"))
    assert max(map(relative, got, wanted)) <= 1e-10
    assert sampler.plan.limit == 2**26
