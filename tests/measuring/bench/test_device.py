"""What is measured beside time is what torch, the system and the driver say; what they do not say is None."""

import subprocess
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch.utils.flop_counter import FlopCounterMode

from diffexplain_fast.measuring.bench import device
from diffexplain_fast.measuring.bench.budgets import at_budgets, parse_budget, span
from diffexplain_fast.measuring.bench.gate import gradient
from diffexplain_fast.measuring.bench.rivals import PLAIN, RIVALS
from tests.measuring.bench.tiny_workload import tiny_workload

CPU = torch.device("cpu")
MIB = 2**20


def test_flop_of_all_steps_follow_from_two() -> None:
    given = tiny_workload(CPU, torch.float32).with_options(steps=5)
    for model in (given.setting.unet, given.setting.vae):
        model.set_attn_processor(AttnProcessor())  # whose products torch's own counter knows on the CPU
    with FlopCounterMode(display=False) as counter:
        gradient(given, RIVALS[PLAIN](given.setting), 0)
    assert device.counted(given).total == counter.get_total_flops()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells it there")
def test_resident_memory_is_what_a_call_adds() -> None:
    kept = torch.zeros(32 * MIB, dtype=torch.uint8)

    def run() -> None:
        torch.ones(64 * MIB, dtype=torch.uint8)

    for _ in range(2):  # whatever was there before
        found = device.resident_bytes(run)
        assert found is not None and 60 * MIB < found < 80 * MIB
    nothing = device.resident_bytes(lambda: None)
    assert nothing is not None and nothing < 8 * MIB and not kept.any()


def test_what_the_system_does_not_tell_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_PROCESS", tmp_path / "none")
    found = device.memory(lambda: torch.ones(MIB), CPU)
    assert found == {"peak_bytes": 4 * MIB, "reserved_bytes": None, "resident_bytes": None, "left_bytes": None}
    assert device.driver_state(CPU) is None and device.joules(CPU) is None


def test_the_driver_is_believed_number_by_number() -> None:
    told = device.parse_driver_state("580.65.06, 1980, [N/A], 700.00\n")
    assert told == {"driver": "580.65.06", "sm_mhz": 1980.0, "memory_mhz": None, "power_limit_w": 700.0}
    assert device.parse_driver_state("No devices were found") is None


def test_no_driver_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(device, "_uuid", lambda device: "GPU-0")
    monkeypatch.setattr(subprocess, "run", absent)
    assert device.driver_state(torch.device("cuda")) is None


@pytest.mark.gpu
def test_a_gpu_tells_reserved_and_left_memory() -> None:
    card = torch.device("cuda")
    others = torch.zeros(256 * MIB, dtype=torch.uint8, device=card)
    found = device.memory(lambda: torch.ones(64 * MIB, dtype=torch.uint8, device=card), card)
    assert found["peak_bytes"] is not None and 64 * MIB <= found["peak_bytes"] < 80 * MIB
    assert found["reserved_bytes"] is not None and found["reserved_bytes"] >= found["peak_bytes"]
    assert found["left_bytes"] and found["resident_bytes"] is None and not others.any()
    assert device.driver_state(card) is not None


def test_budgets() -> None:
    assert parse_budget("33%") == 0.33 and parse_budget("8GiB") == 8 * 2**30
    for text in ("", "auto", "8 apples", "-5%", "nan%"):
        with pytest.raises(ValueError, match=r"(budget|memory): wanted"):
            parse_budget(text)


@pytest.mark.slow
def test_a_share_lies_between_the_least_and_everything() -> None:
    given = tiny_workload(CPU, torch.float32)
    least, most = span(given)
    assert 0 < least < most
    limits = []
    for name, make in at_budgets(("0%", "50%", "1GiB"), given, checked=True).items():
        images = make(given.setting)
        gradient(given, images, 0)
        plan = images.sampler.plan  # type: ignore[attr-defined]
        assert plan.peak <= plan.limit, name
        limits.append(plan.limit)
    assert limits == [least, round((least + most) / 2), round((least + most) / 2)], "1 GiB would be everything"


def test_without_plans_a_share_is_refused_but_bytes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(workload: object) -> None:
        raise torch.OutOfMemoryError("no memory for you")

    monkeypatch.setattr("diffexplain_fast.measuring.bench.budgets.span", no_memory)
    given = tiny_workload(CPU, torch.float32)
    made = at_budgets(("50%", "1GiB"), given)
    with pytest.raises(ValueError, match="no share without the plans: OutOfMemoryError: no memory for you"):
        made["ours, 50%"](given.setting)
    assert gradient(given, made["ours, 1GiB"](given.setting), 0).isfinite().all()


def test_copies_share_their_weights_until_they_are_changed() -> None:
    setting = tiny_workload(CPU, torch.float32).setting
    unet = setting.copied().unet
    pairs = list(zip(unet.parameters(), setting.unet.parameters(), strict=True))
    assert all(own is not theirs and own.data_ptr() == theirs.data_ptr() for own, theirs in pairs)
    strides = [theirs.stride() for _, theirs in pairs]
    unet.requires_grad_(True).to(memory_format=torch.channels_last)
    assert [theirs.stride() for _, theirs in pairs] == strides and not any(theirs.requires_grad for _, theirs in pairs)
    assert any(own.data_ptr() != theirs.data_ptr() for own, theirs in pairs)
