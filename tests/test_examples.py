"""The examples run, and have the effect that they state."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_align_lora_raises_the_reward() -> None:
    pytest.importorskip("peft")
    align = runpy.run_path(str(ROOT / "examples" / "align_lora.py"))["align"]
    rewards = align(steps=4, batch=1, sampling_steps=2)
    assert rewards[-1] > 2 * rewards[0]
