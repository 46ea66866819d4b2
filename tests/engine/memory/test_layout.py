"""The user's convolution weights in another layout while a sampler lives, and as they were afterwards."""

import gc

import pytest
import torch
from torch import nn

from diffexplain_fast.engine.memory.layout import ConvertedLayout
from diffexplain_fast.engine.memory.resident import layout_bytes
from tests.engine.fast.cases import Case, arguments_of, assert_close, inputs_of, results, sampler_for
from tests.engine.samplers import sampler_of
from tests.tiny import tiny_sd


def layouts(*modules: nn.Module) -> list[tuple]:
    """Strides and contents of all weights."""
    weights = [weight for module in modules for weight in module.parameters()]
    return [(id(weight), weight.stride(), weight.double().sum().item()) for weight in weights]


def is_converted(module: nn.Module) -> bool:
    found = [child.weight for child in module.modules() if isinstance(child, nn.Conv2d)]
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in found)


@pytest.fixture
def pipe():
    return tiny_sd().to(torch.float64)


def test_weights_are_the_same_parameters_before_in_and_after(pipe) -> None:
    before, state = layouts(pipe.unet), {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    held = ConvertedLayout(pipe.unet)
    assert is_converted(pipe.unet) and layouts(pipe.unet) != before
    assert all(torch.equal(tensor, state[name]) for name, tensor in pipe.unet.state_dict().items())
    for _ in range(2):
        held.undo()
        assert layouts(pipe.unet) == before


def test_what_is_trained_or_changed_meanwhile_is_kept(pipe) -> None:
    trained, edited = pipe.unet.conv_in, pipe.unet.conv_out
    strides = trained.weight.stride()
    held = ConvertedLayout(pipe.unet, trained=[trained.weight])
    assert trained.weight.stride() == strides
    with torch.no_grad():
        edited.weight.mul_(2.0)
    wanted = edited.weight.clone()
    held.undo()
    assert torch.equal(edited.weight, wanted) and edited.weight.is_contiguous()


def test_the_layout_is_put_back_when_nobody_holds_it_any_more(pipe) -> None:
    before = layouts(pipe.unet)
    held = ConvertedLayout(pipe.unet)
    del held
    gc.collect()
    assert layouts(pipe.unet) == before


def test_a_sampler_holds_no_second_copy_and_computes_the_same(pipe) -> None:
    before, case = layouts(pipe.unet, pipe.vae), Case()
    given, wanted = inputs_of("sd15"), arguments_of(case)
    plain = sampler_for(case, "fast", memory=None)
    with sampler_of(pipe, backend="fast", memory=None, layout="convert", num_inference_steps=case.steps) as sampler:
        assert is_converted(pipe.unet) and is_converted(pipe.vae.decoder)
        extra = layout_bytes((sampler._engine.denoiser, sampler._engine.decoder), (pipe.unet, pipe.vae))
        assert extra < layout_bytes((plain._engine.denoiser, plain._engine.decoder), plain._modules)
        sampler.guidance_scale = case.guidance
        assert_close(results(sampler, given, wanted), results(sampler_for(case, "reference"), given, wanted))
    assert layouts(pipe.unet, pipe.vae) == before
    with pytest.raises(RuntimeError, match=r"^the sampler is closed"):
        sampler(**given)


def test_an_error_while_a_sampler_is_made_or_used_leaves_the_layout_as_it_was(pipe) -> None:
    before = layouts(pipe.unet, pipe.vae)
    with pytest.raises(ValueError, match="retry_dtype"):
        sampler_of(pipe, backend="fast", memory=None, layout="convert", retry_dtype=torch.float64)
    assert layouts(pipe.unet, pipe.vae) == before
    with pytest.raises(KeyError), sampler_of(pipe, backend="fast", memory=None, layout="convert"):
        raise KeyError("of the caller")
    assert layouts(pipe.unet, pipe.vae) == before


def test_models_that_are_refused_keep_their_layout(pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    before = layouts(pipe.unet, pipe.vae)
    monkeypatch.setattr("diffexplain_fast.engine.fast.engine.FastEngine.refresh", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sampler_of(pipe, backend="fast", memory=None, layout="convert")
    assert layouts(pipe.unet, pipe.vae) == before


@pytest.mark.parametrize(
    ("layout", "backend", "error", "said"),
    [
        (3, "fast", TypeError, "layout: wanted 'keep' or 'convert', got int"),
        ("nhwc", "fast", ValueError, "layout: wanted 'keep' or 'convert', got 'nhwc'"),
        ("convert", "reference", ValueError, "layout: wanted 'keep' with backend='reference'"),
    ],
)
def test_another_layout_is_refused(pipe, layout, backend, error, said) -> None:
    with pytest.raises(error, match=f"^{said}"):
        sampler_of(pipe, backend=backend, memory=None, layout=layout)
