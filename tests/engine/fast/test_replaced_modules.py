"""Modules in places where a lean model has none: the models then run through their own modules, and say which it is."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tests.engine.fast.edits import block_of, lora
from tests.engine.plain import relative
from tests.engine.samplers import sampler_of
from tests.models.test_watch import run
from tests.tiny import tiny_sd


def middle(pipe):
    return pipe.unet.mid_block.resnets[0]


def attention(pipe):
    return pipe.vae.decoder.mid_block.attentions[0]


PLACES = {
    "attn1.to_out.1": lambda pipe, new: block_of(pipe).attn1.to_out.__setitem__(1, new),
    "attn2.to_out.1": lambda pipe, new: block_of(pipe).attn2.to_out.__setitem__(1, new),
    "ff.net.1": lambda pipe, new: block_of(pipe).ff.net.__setitem__(1, new),
    "ff.net.3": lambda pipe, new: block_of(pipe).ff.net.append(new),
    "mid_block.resnets.0.dropout": lambda pipe, new: setattr(middle(pipe), "dropout", new),
    "decoder.mid_block.attentions.0.to_out.1": lambda pipe, new: attention(pipe).to_out.__setitem__(1, new),
    "decoder.up_blocks.0.resnets.0.dropout": lambda pipe, new: setattr(
        pipe.vae.decoder.up_blocks[0].resnets[0], "dropout", new
    ),
    "downsamplers.1": lambda pipe, new: pipe.unet.down_blocks[0].downsamplers.append(new),
}
"""How a module is put into a place, by the end of the place's name."""


class Half(nn.Module):
    """Halves what passes, of any shape."""

    def forward(self, x, *_):
        return x / 2


class Dropped(nn.Dropout):
    """Something else than its class's name says."""

    def forward(self, x):
        return x / 2


@pytest.fixture
def pipe():
    made = tiny_sd().to(torch.float64)
    return SimpleNamespace(unet=made.unet, vae=made.vae)


def assert_own(sampler, pipe, place):
    """Assert that the sampler runs the modules themselves, names a place, and is right."""
    for got, wanted in zip(run(sampler), run(sampler_of(pipe, backend="reference")), strict=True):
        assert relative(got, wanted) <= 1e-10
    assert f"{place} is a " in sampler._engine.unknown


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_a_module_where_the_lean_model_has_none_is_run(pipe, place, when):
    sampler = sampler_of(pipe, backend="fast")
    if when == "after":
        run(sampler)
    PLACES[place](pipe, Half() if when == "after" else Dropped(0.5))
    assert_own(sampler if when == "after" else sampler_of(pipe, backend="fast"), pipe, place)


@pytest.mark.parametrize("place", PLACES)
def test_a_module_that_does_nothing_there_is_left_out(pipe, place):
    sampler = sampler_of(pipe, backend="fast")
    before = run(sampler)
    for module in (nn.Dropout(0.5), nn.FeatureAlphaDropout(0.5), nn.Identity()):
        PLACES[place](pipe, module)
        assert all(map(torch.equal, run(sampler), before)) and not sampler._engine.unknown


@pytest.mark.parametrize("activation", [nn.Tanh(), torch.tanh], ids=["module", "function"])
def test_an_activation_of_the_embedding_of_the_time_is_run(pipe, activation):
    sampler = sampler_of(pipe, backend="fast")
    run(sampler)
    pipe.unet.time_embed_act = activation
    for got, wanted in zip(run(sampler), run(sampler_of(pipe, backend="reference")), strict=True):
        assert relative(got, wanted) <= 1e-10
    assert "time_embed_act" in sampler._engine.unknown


def test_a_module_that_stands_in_one_more_place_runs_there_too(pipe):
    net = block_of(pipe).ff.net
    net.append(nn.Identity())
    net[3] = nn.Linear(net[2].out_features, net[2].out_features, dtype=torch.float64)
    assert_own(sampler_of(pipe, backend="fast"), pipe, "ff.net.3")
    net[3] = nn.Identity()
    transformer = pipe.unet.mid_block.attentions[0]
    width = transformer.norm.num_channels
    twice = nn.Linear(width, width, dtype=torch.float64)
    transformer.transformer_blocks[0].attn1.to_out[0] = twice
    transformer.transformer_blocks[0].attn1.to_out[1] = twice
    assert_own(sampler_of(pipe, backend="fast"), pipe, "attn1.to_out.1")


def test_a_layer_of_a_lora_that_computes_something_else_is_run(pipe):
    lora(pipe)
    down = block_of(pipe).attn2.to_k.lora_A
    parametrizations.weight_norm(down["default"])
    assert not sampler_of(pipe, backend="fast")._engine.unknown
    down["default"] = nn.Sequential(nn.Linear(16, 2, dtype=torch.float64), nn.Tanh())
    down["default"].weight = down["default"][0].weight
    assert_own(sampler_of(pipe, backend="fast"), pipe, "attn2.to_k.lora_A.default")


def test_a_block_that_stands_in_two_places_is_read_in_both(pipe):
    resnets = pipe.unet.mid_block.resnets
    resnets[1] = resnets[0]
    sampler = sampler_of(pipe, backend="fast")
    for got, wanted in zip(run(sampler), run(sampler_of(pipe, backend="reference")), strict=True):
        assert relative(got, wanted) <= 1e-10
    assert not sampler._engine.unknown


def test_a_module_that_the_encoder_has_too_is_read_in_the_decoder(pipe):
    pipe.vae.encoder.conv_act = pipe.vae.decoder.conv_act
    for block in (*pipe.vae.encoder.mid_block.resnets, *pipe.vae.decoder.mid_block.resnets):
        block.nonlinearity = pipe.vae.decoder.conv_act
    sampler = sampler_of(pipe, backend="fast")
    for got, wanted in zip(run(sampler), run(sampler_of(pipe, backend="reference")), strict=True):
        assert relative(got, wanted) <= 1e-10
    assert not sampler._engine.unknown


def test_a_module_that_never_runs_is_named(pipe):
    pipe.unet.teacher = Half()
    assert_own(sampler_of(pipe, backend="fast"), pipe, "teacher")
