"""Processors that count their calls are noticed, however small their part of the output is; honest ones never are."""

import threading

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from diffexplain_fast.engine.repeated import _NUMBERS, ANOTHER, Repeated, _listening, _numbers
from diffexplain_fast.models.watch import Watch, has_hooks, own_parts
from tests.engine.fast.cases import inputs_of
from tests.engine.fast.trained import models_of, sampler_of
from tests.engine.plain import relative

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
RECOMPUTED = [("fast", "full"), ("fast", "checkpointed"), ("reference", "checkpointed")]


class Fading(AttnProcessor2_0):
    """Cross-attention with less weight in every call: a usual way to fade out the text."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        return super().__call__(*arguments, **options) / self.calls


class Counting(Fading):
    """Counts its calls for nothing, and computes by another kernel where a gradient is recorded."""

    def __call__(self, *arguments, **options):
        self.calls += 1
        kernel = AttnProcessor() if torch.is_grad_enabled() else super(Fading, self)
        return kernel.__call__(*arguments, **options)


class Statistic(nn.Module):
    """Returns what it got, and counts its calls in a number of which the model computes nothing."""

    def __init__(self, fades):
        super().__init__()
        self.calls, self.fades = 0, fades

    def forward(self, x):
        self.calls += 1
        return {"calls": torch.tensor(float(self.calls)), "x": (x / self.calls if self.fades else x,)}


class Noting(AttnProcessor2_0):
    """Hands its result through a ``Statistic``."""

    def __call__(self, attention, *arguments, **options):
        return attention.statistic(super().__call__(attention, *arguments, **options))["x"][0]


def models_with(processor, dtype, share=1.0):
    """Models whose attention has a share of its usual part in the output."""
    models = models_of()
    layers = models.unet.attn_processors
    models.unet.set_attn_processor({name: processor() if "attn2" in name else AttnProcessor2_0() for name in layers})
    with torch.no_grad():
        for name, weight in models.unet.named_parameters():
            if "proj_out" in name:
                weight.mul_(share)
    models.unet.to(dtype), models.vae.to(dtype)
    return models


def gradient_of(models, backend, gradient, dtype, guidance=1.0):
    given = {name: value.to(dtype) for name, value in inputs_of("sd15").items()}
    prompt = given["prompt_embeds"].requires_grad_()
    images = sampler_of(models, backend, guidance=guidance, gradient=gradient)(**given)
    return torch.autograd.grad(images.square().sum(), prompt)[0]


@pytest.mark.parametrize(("backend", "gradient"), RECOMPUTED)
@pytest.mark.parametrize("share", [1.0, 1e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_processor_that_counts_its_calls_is_noticed(dtype, share, backend, gradient):
    with pytest.raises(RuntimeError, match="computed something else when a part of the call ran again"):
        gradient_of(models_with(Fading, dtype, share), backend, gradient, dtype)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_hook_that_counts_its_calls_is_noticed_by_the_reference_too(part):
    models, calls = models_of(), []
    module = {"unet": models.unet.mid_block, "vae": models.vae.decoder.conv_in}[part]
    module.register_forward_hook(lambda part, given, output: calls.append(part) or output * (1 + len(calls) / 1e8))
    with pytest.raises(RuntimeError, match="computed something else"):
        gradient_of(models, "reference", "checkpointed", torch.float64)
    assert gradient_of(models, "reference", "full", torch.float64).norm() > 0


def test_every_module_is_looked_at_where_a_hook_runs_on_all(monkeypatch):
    models, calls = models_of(), []

    def fading(module, given, output):
        if module is models.unet.mid_block.attentions[0].transformer_blocks[0].attn2:
            calls.append(module)
            return output / len(calls)
        return None

    handle = nn.modules.module.register_module_forward_hook(fading)
    with torch.no_grad():
        models.unet.mid_block.attentions[0].proj_out.weight.mul_(1e-12)
    try:
        assert own_parts(models.unet) == list(models.unet.modules())
        with pytest.raises(RuntimeError, match="computed something else"):
            gradient_of(models, "reference", "checkpointed", torch.float64)
    finally:
        handle.remove()


@pytest.mark.parametrize(("backend", "gradient"), RECOMPUTED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_kernel_in_the_backward_is_no_other_result(dtype, backend, gradient):
    models = models_with(Counting, dtype)
    got = gradient_of(models, backend, gradient, dtype, 3.0)
    wanted = gradient_of(models, "reference", "full", dtype, 3.0)
    assert relative(got.double(), wanted.double()) <= 100 * torch.finfo(dtype).eps ** 0.75


@pytest.mark.parametrize(("backend", "gradient"), RECOMPUTED)
@pytest.mark.parametrize("fades", [False, True])
def test_a_count_of_which_nothing_is_computed_is_no_other_result(fades, backend, gradient):
    models = models_with(Noting, torch.float64, 1e-12)
    for module in models.unet.modules():
        if type(module).__name__ == "Attention":
            module.statistic = Statistic(fades)
    if fades:
        with pytest.raises(RuntimeError, match="computed something else"):
            gradient_of(models, backend, gradient, torch.float64)
    else:
        assert gradient_of(models, backend, gradient, torch.float64).norm() > 0


def test_a_module_without_a_graph_is_compared_too():
    fixed, calls = nn.Linear(4, 4).requires_grad_(False), []
    fixed.register_forward_hook(lambda part, given, output: calls.append(part) or output * len(calls))
    model = nn.ModuleList([fixed])
    repeated, x = Repeated(model), torch.ones(2, 4)

    def compute():
        return x + 1e-12 * fixed(torch.ones(2, 4))

    repeated.run("part", compute)
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="computed something else"):
        repeated.run("part", compute)


@pytest.mark.parametrize("view", [lambda x: x.transpose(1, 3), lambda x: x[..., ::2], lambda x: x[:, :1].expand_as(x)])
def test_the_numbers_are_the_same_in_every_order_in_memory(view):
    output = view(torch.randn(2, 6, 20, 30))
    wanted = output.contiguous().flatten()[:: output.numel() // _NUMBERS]
    assert torch.equal(_numbers(output), wanted) and torch.equal(_numbers(output.contiguous()), wanted)
    assert torch.equal(_numbers(output.to(memory_format=torch.channels_last)), wanted)


def test_a_few_numbers_of_a_large_output_need_no_copy_of_it():
    output = torch.randn(1, 64, 256, 256).to(memory_format=torch.channels_last)
    with torch.profiler.profile(profile_memory=True) as profile:
        _numbers(output)
    assert max(event.self_cpu_memory_usage for event in profile.key_averages()) < 100_000


def test_autocast_around_the_reference_is_no_other_result():
    models = models_with(Counting, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert gradient_of(models, "reference", "checkpointed", torch.float32).isfinite().all()


def test_own_parts_are_those_that_are_not_of_a_library():
    unet = models_of().unet
    assert own_parts(unet) == []
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    block.attn2.set_processor(Fading())
    unet.mid_block.register_forward_hook(lambda *_: None)
    unet.conv_out.forward = lambda x: x
    assert own_parts(unet) == [unet.mid_block, block.attn2, unet.conv_out]
    compiled = torch.compile(unet, backend="eager")
    assert own_parts(compiled) == []


def test_listening_is_no_edit_and_leaves_no_hook():
    unet = models_of().unet
    watch = Watch(unet)
    with _listening([unet.mid_block, unet.conv_in]) as seen:
        assert not watch.edited() and not has_hooks(unet.mid_block)
        unet.conv_in(torch.ones(1, 4, 8, 8, dtype=torch.float64))
    assert len(seen) == 1 and not unet.conv_in._forward_hooks and "hook or a processor" in ANOTHER


def test_a_run_in_another_thread_is_not_listened_to():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    repeated, inputs = Repeated(nn.ModuleList([layer])), torch.randn(3, 2, 4)

    def compute(other):
        thread = threading.Thread(target=layer, args=(other,))
        thread.start()
        thread.join()
        return layer(inputs[0])

    with _listening([layer]) as seen:
        compute(inputs[1])
    assert len(seen) == 1
    results = [repeated.run("part", lambda other=other: compute(other)) for other in inputs[1:]]
    assert torch.equal(*results)
