"""What decides what a module computes beside its weights: told apart, and the same wherever it was loaded."""

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import MethodType

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, SlicedAttnProcessor
from torch import Tensor, nn

from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.module_settings import settings_sha256
from tests.tiny import tiny_sd, tiny_sdxl

Edit = Callable[[UNet2DConditionModel], object]


class Halved:
    """An attention processor of a user's own."""

    def __init__(self, by: float = 0.5, times: int = 1) -> None:
        self._by, self.times = by, times

    def __call__(self, attention: Attention, hidden_states: Tensor, **_: object) -> Tensor:
        """Return the states, smaller."""
        return hidden_states * self._by


class Third(Halved):
    """The same by another name."""


class Louder:
    """A hook that remembers what it has seen."""

    def __init__(self, by: float) -> None:
        self.by, self.calls, self.seen = by, 0, []

    def __call__(self, _: nn.Module, __: object, output: Tensor) -> Tensor:
        """Return the output, larger."""
        self.calls += 1
        self.seen.append(float(output.mean()))
        return output * self.by


@functools.cache
def usual() -> UNet2DConditionModel:
    return tiny_sd().unet


def unet() -> UNet2DConditionModel:
    return deepcopy(usual())


def settings(*edits: Edit) -> str:
    model = unet()
    for edit in edits:
        edit(model)
    return settings_sha256(model)


def attention(model: UNet2DConditionModel) -> Attention:
    return next(each for each in model.modules() if isinstance(each, Attention))


def scaled(by: float) -> Callable[..., Tensor]:
    return lambda module, inputs, output: output * by


def adapted(model: UNet2DConditionModel, scale: float = 1.0) -> None:
    peft = pytest.importorskip("peft")
    for name in ("first", "second"):
        model.add_adapter(peft.LoraConfig(r=2, lora_alpha=2 * scale, target_modules=["to_q"]), name)


EDITS: dict[str, Edit] = {
    "freeu": lambda model: model.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6),
    "less freeu": lambda model: model.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.5),
    "heads": lambda model: setattr(attention(model), "heads", 1),
    "scale": lambda model: setattr(attention(model), "scale", 0.25),
    "configuration": lambda model: model.register_to_config(flip_sin_to_cos=False),
    "padding": lambda model: setattr(model.conv_in, "padding_mode", "circular"),
    "activation": lambda model: setattr(model, "conv_act", nn.GELU()),
    "processor": lambda model: attention(model).set_processor(Halved()),
    "processor's class": lambda model: attention(model).set_processor(Third()),
    "processor's number": lambda model: attention(model).set_processor(Halved(0.25)),
    "processor's count": lambda model: attention(model).set_processor(Halved(0.5, 2)),
    "hook": lambda model: model.conv_in.register_forward_hook(scaled(2.0)),
    "hook's number": lambda model: model.conv_in.register_forward_hook(scaled(2)),
    "other hook": lambda model: model.conv_in.register_forward_hook(scaled(3)),
    "hook before": lambda model: model.conv_in.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2.0,)),
    "hook's code": lambda model: model.conv_in.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 2.0,)),
    "object": lambda model: model.conv_in.register_forward_hook(Louder(2.0)),
    "other object": lambda model: model.conv_in.register_forward_hook(Louder(3.0)),
    "partial": lambda model: setattr(model.conv_in, "forward", functools.partial(torch.mul, other=2.0)),
    "other partial": lambda model: setattr(model.conv_in, "forward", functools.partial(torch.mul, other=4.0)),
    "method": lambda model: setattr(model.conv_in, "forward", MethodType(lambda self, x: x * 2, model.conv_in)),
    "attribute": lambda model: setattr(model, "strength", 0.1),
    "function as a key": lambda model: setattr(model, "table", {(lambda x: x): 0.5}),
    "private fraction": lambda model: setattr(model, "_strengths", {"size": (8, 8), "args": {"ratio": 0.5}}),
}
"""Edits that leave every weight as it is."""


def test_edits_that_leave_the_weights_are_told_apart() -> None:
    found = {name: settings(edit) for name, edit in EDITS.items()} | {"none": settings()}
    assert found["function as a key"] == settings(EDITS["function as a key"])
    same = {name: [other for other in found if found[other] == found[name]] for name in found}
    assert same == {name: [name] for name in found} | {name: ["hook", "hook's number"] for name in same["hook"]}


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_a_scale_an_active_and_a_disabled_adapter_are_told_apart() -> None:
    edits: list[list[Edit]] = [
        [],
        [lambda model: model.set_adapter("first")],
        [lambda model: model.set_adapter(["first", "second"])],
        [lambda model: model.disable_adapters()],
        [lambda model: model.set_adapters(["second"], 0.5)],
    ]
    found = [settings(adapted, *each) for each in edits] + [settings(lambda model: adapted(model, 0.1)), settings()]
    assert len({*found}) == len(found)
    undone = settings(adapted, lambda model: model.disable_adapters(), lambda model: model.enable_adapters())
    assert undone == found[0] == settings(adapted, lambda model: model.set_adapter(["second"]))


def test_what_changes_no_result_or_is_only_remembered_is_left_out() -> None:
    edits: list[Edit] = [
        lambda model: model.set_attn_processor(AttnProcessor()),
        lambda model: model.set_attn_processor(SlicedAttnProcessor(1)),
        lambda model: model.enable_gradient_checkpointing(),
        lambda model: (model.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6), model.disable_freeu()),
        lambda model: model.register_to_config(_name_or_path="elsewhere"),
        lambda model: setattr(model, "_steps", 3),
        lambda model: setattr(model, "_seen", {"size": (8, 8), "losses": [0.5]}),
        lambda model: setattr(model, "started", time.time()),
        lambda model: model.half(),
        lambda model: model.requires_grad_(False),
    ]
    assert {settings(edit) for edit in edits} == {settings()}


def test_what_hooks_remember_of_a_run_is_left_out() -> None:
    model, hook = unet(), Louder(2.0)
    model.conv_in.register_forward_hook(hook)
    before = settings_sha256(model)
    with torch.no_grad():
        model(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 7, model.config.cross_attention_dim))
    assert hook.calls == len(hook.seen) == 1 and settings_sha256(model) == before


def test_a_hook_of_accelerate_changes_nothing_also_when_it_was_removed() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    model = unet()
    hooks.add_hook_to_module(model.conv_in, hooks.AlignDevicesHook("cpu", io_same_device=True))
    assert settings_sha256(model) == settings()
    hooks.remove_hook_from_module(model.conv_in)
    assert "forward" in vars(model.conv_in) and settings_sha256(model) == settings()


def test_only_options_of_a_text_encoder_that_compute_something_count() -> None:
    encoder = tiny_sd().text_encoder
    before, config = settings_sha256(encoder), encoder.config
    config.id2label, config.return_dict, config.output_hidden_states = {0: "ship"}, False, True
    config.initializer_factor, config.problem_type = 0.5, "regression"
    assert settings_sha256(encoder) == before
    config.eos_token_id += 1
    assert settings_sha256(encoder) != before


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
def test_a_stored_pipeline_has_the_same_settings_also_after_use(make: Callable, tmp_path: Path) -> None:
    pipe = make()
    pipe.save_pretrained(tmp_path / "stored")
    stored, made = load_pipeline(tmp_path / "stored"), load_pipeline(pipe)
    found = {name: settings_sha256(module) for name, module in made.modules.items()}
    assert {name: settings_sha256(module) for name, module in stored.modules.items()} == found
    made.encode_text(["fish"])
    made.vae.decode(torch.zeros(1, *made.latent_shape))
    assert {name: settings_sha256(module) for name, module in made.modules.items()} == found


@pytest.mark.slow
def test_another_process_finds_the_same_settings() -> None:
    code = "from tests.models.test_module_settings import EDITS, settings; print(settings(*EDITS.values()))"
    here = {**os.environ, "PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, check=True, text=True)
    assert other.stdout.strip() == settings(*EDITS.values())
