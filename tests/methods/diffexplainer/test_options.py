"""Options are refused early, by the error that names them."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from diffexplain_fast.methods.diffexplainer.options import Options, options_from


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("n_tokens", 0),
        ("images_per_step", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("word_pull", -0.1),
        ("noise", float("nan")),
        ("restart_below", 1.5),
        ("stop_probability", 0.0),
        ("n_images", 33),
        ("start", " "),
        ("candidates", []),
        ("candidates", ["boat", ""]),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: wanted .*, got "):
        Options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 2.0),
        ("iterations", True),
        ("lr", "0.1"),
        ("prefix", None),
        ("start", 3),
        ("fresh_latents", 1),
        ("candidates", "boat"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: wanted .*, got "):
        Options(**{name: value})


@pytest.mark.parametrize("name", ["learning_rate", "n_iter", "inference_steps"])
def test_an_option_that_does_not_exist_names_the_nearest(name: str) -> None:
    nearest = {"learning_rate": "", "n_iter": "iterations", "inference_steps": "num_inference_steps"}[name]
    with pytest.raises(
        TypeError, match=rf"^option: wanted one of \d+ known names, nearest: .*{nearest}.* got '{name}'"
    ):
        options_from({"lr": 0.1, name: 3}, ["num_inference_steps"])
    assert options_from({"lr": 0.1}) == Options(lr=0.1)


def test_numbers_of_other_libraries_become_json() -> None:
    options = Options(iterations=np.int64(3), restarts=torch.tensor(0), lr=np.float32(0.5), noise=np.float64(0))
    assert json.loads(json.dumps(asdict(options))) == asdict(Options(iterations=3, restarts=0, lr=0.5, noise=0))
