"""Plans of models that run through the user's own modules: counting runs no hook and leaves nothing behind."""

import pytest
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from diffexplain_fast.models.frozen import without_hooks
from tests.engine.samplers import embeds, sampler_of, seed
from tests.tiny import tiny_sd


@pytest.fixture
def pipe():
    return tiny_sd()


def loss_of(sampler):
    return sampler(embeds().requires_grad_(), embeds(seed=1), generator=seed()).sum()


@pytest.mark.parametrize("part", ["unet.mid_block", "vae.decoder"])
@pytest.mark.parametrize("memory", ["1GiB", None])
def test_a_hook_that_reads_a_value_runs_in_calls_only(pipe, part, memory):
    means: list[float] = []
    module = pipe.unet.mid_block if part == "unet.mid_block" else pipe.vae.decoder
    module.register_forward_hook(lambda module, given, output: means.append(output.mean().item()))
    sampler = sampler_of(pipe, backend="fast", memory=memory)
    loss_of(sampler).backward()
    calls = len(means)
    assert calls > 0 and f"a hook on {part.partition('.')[2]}" in str(sampler.plan) and len(means) == calls


class Reading(AttnProcessor2_0):
    """A processor whose way depends on values."""

    def __call__(self, layer, hidden, *arguments, **options):
        return super().__call__(layer, hidden if hidden.abs().max() < 1e6 else hidden / 2, *arguments, **options)


def test_modules_that_read_values_keep_no_limit_and_say_so(pipe):
    pipe.unet.set_attn_processor(Reading())
    wanted = "memory: wanted None, because a plan is counted on tensors without values"
    with pytest.raises(ValueError, match=wanted):
        loss_of(sampler_of(pipe, backend="fast", memory="1GiB"))
    sampler = sampler_of(pipe, backend="fast", memory=None)
    loss_of(sampler).backward()
    assert wanted in repr(sampler)
    with pytest.raises(ValueError, match=wanted):
        str(sampler.plan)


def test_a_copy_without_hooks_shares_weights_and_nothing_else():
    inner = nn.Linear(2, 2)
    module = nn.Sequential(inner, nn.Sequential(inner), nn.Identity())
    for part in module.modules():
        part.register_forward_hook(lambda part, given, output: setattr(part, "seen", output))
    twin = without_hooks(module)
    given = embeds(width=2)
    assert twin(given).equal(inner.forward(inner.forward(given)))
    assert not any(hasattr(part, "seen") for part in (*module.modules(), *twin.modules()))
    assert [*map(id, twin.parameters())] == [*map(id, module.parameters())]
    assert twin[0] is twin[1][0] and twin[0] is not inner and len(inner._forward_hooks) == 1
