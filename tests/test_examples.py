"""The examples run, and have the effect that they state."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def _function(file: str, name: str) -> Callable[..., Any]:
    return runpy.run_path(str(ROOT / "examples" / file))[name]


def _odds(probability: float) -> float:
    return probability / (1 - probability)


def test_align_lora_raises_the_reward() -> None:
    pytest.importorskip("peft")
    rewards = _function("align_lora.py", "align")(steps=4, batch=1, sampling_steps=2)
    assert _odds(rewards[-1]) > 4 * _odds(rewards[0])


def test_align_lora_takes_a_truncated_gradient() -> None:
    pytest.importorskip("peft")
    align = _function("align_lora.py", "align")
    exact, truncated = (align(steps=3, batch=1, sampling_steps=2, gradient=mode) for mode in ("full", "last:1"))
    assert truncated[0] == pytest.approx(exact[0], rel=1e-3)
    assert len({*truncated, exact[-1]}) == 4  # each step of the optimizer changes the pictures, and not in the same way


def test_alignprop_raises_the_reward() -> None:
    pytest.importorskip("peft")
    rewards = _function("alignprop_lora.py", "align")(steps=4, batch=1, sampling_steps=2)
    assert _odds(rewards[-1]) > 4 * _odds(rewards[0])


def test_reno_raises_the_reward() -> None:
    rewards = _function("reno_noise.py", "search_noise")(steps=6, sampling_steps=2)
    assert rewards[-1] > rewards[0] + 1


def test_digin_raises_the_neuron() -> None:
    activations = _function("digin_neuron.py", "raise_neuron")(steps=4, sampling_steps=2)
    assert activations[-1] > 1.1 * activations[0] > 0


@pytest.mark.slow
def test_types_of_the_examples_are_right() -> None:
    pytest.importorskip("mypy", reason="the extra dev is not installed")
    files = [str(file) for file in sorted((ROOT / "examples").glob("*.py"))]
    done = subprocess.run([sys.executable, "-m", "mypy", *files], cwd=ROOT, capture_output=True, text=True)
    assert files and done.returncode == 0, done.stdout + done.stderr
