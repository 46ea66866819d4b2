"""What own code writes into itself in a run, as a count of its calls, is no setting; objects may know each other."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

from diffexplain_fast.models.module_settings import settings_sha256
from tests.models.test_module_settings import EDITS, Edit, adapted, attention, settings, unet


def counted() -> Callable[..., None]:
    calls, output = 0, 2.0

    def count(_: nn.Module, __: object, ___: Tensor) -> None:
        nonlocal calls
        calls += bool(output)

    return count


class Remembering(nn.SiLU):
    """An activation that counts, lists and times its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.last, self.shapes, self.often, self.share = 0, 0.0, [], {"all": 0}, 1

    def forward(self, given: Tensor) -> Tensor:
        """Return the usual output."""
        self.remember(given)
        return super().forward(given) * self.share

    def remember(self, given: Tensor) -> None:
        """Remember a call."""
        self.calls, self.last = self.calls + 1, time.time()
        self.shapes.append(len(given))
        self.often["all"] += 1


class Together(AttnProcessor2_0):
    """A processor that counts its calls in itself and in the one that all processors know."""

    def __init__(self, controller: "Controller") -> None:
        super().__init__()
        self.calls, self.controller = 0, controller

    @torch.no_grad()
    def __call__(self, *given: Any, **options: Any) -> Tensor:
        """Return the usual output."""
        self.calls += 1
        self.controller()
        self.controller.seen += 1
        return super().__call__(*given, **options)


class Controller:
    """What several processors share; it knows them too."""

    def __init__(self) -> None:
        self.calls, self.seen, self.place, self.processors = 0, 0, 3, []

    def __call__(self) -> None:
        """Count a call."""
        self.calls += 1

    def move(self, place: int) -> None:
        """Change an option between runs."""
        self.place = place


def together(model: UNet2DConditionModel) -> None:
    controller = Controller()
    controller.processors = [Together(controller) for _ in model.attn_processors]
    model.set_attn_processor(dict(zip(model.attn_processors, controller.processors, strict=True)))


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: setattr(model, "conv_act", Remembering()),
        lambda model: model.conv_in.register_forward_hook(counted()),
        together,
    ],
)
def test_what_own_code_counts_in_a_run_is_left_out_and_real_edits_are_not(edit: Edit) -> None:
    model = unet()
    edit(model)
    before = settings_sha256(model)
    with torch.no_grad():
        model(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 7, model.config.cross_attention_dim))
    assert settings_sha256(model) == before != settings()
    model.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    assert settings_sha256(model) not in (before, settings(EDITS["freeu"]))
    model.disable_freeu()
    assert settings_sha256(model) == before


def test_an_option_that_only_a_setter_writes_counts_after_a_run_too() -> None:
    model = unet()
    together(model)
    before = settings_sha256(model)
    attention(model).processor.controller.move(4)
    assert settings_sha256(model) != before
    activated = unet()
    activated.conv_act = Remembering()
    before, activated.conv_act.share = settings_sha256(activated), 2
    assert settings_sha256(activated) != before


def test_many_processors_that_share_a_controller_are_told_quickly() -> None:
    controller = Controller()
    controller.processors = [Together(controller) for _ in range(64)]
    model = nn.ModuleList([nn.Linear(1, 1) for _ in controller.processors])
    for part, processor in zip(model, controller.processors, strict=True):
        part.processor = processor
    began = time.process_time()
    settings_sha256(model)
    assert time.process_time() - began < 2.0  # without memory of what was told, minutes


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_another_scale_of_an_adapter_between_two_runs_is_noticed_and_a_count_is_not() -> None:
    model, found = unet(), []
    together(model)
    adapted(model)
    for scale in (0.5, 0.5, 0.7):
        model.set_adapters(["first"], scale)
        found.append(settings_sha256(model))
        with torch.no_grad():
            model(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 7, model.config.cross_attention_dim))
    assert found[0] == found[1] != found[2]
