"""Seeds without stored state, and scores of the generator's images."""

import pytest
import torch

from diffexplain_fast.evidence.seeds import normal, seeded_generator, uniform
from tests.explaining import QUICK, assert_same_result, quick_explainer


def numbers(seed: int, stage: str, index: int) -> list[float]:
    return torch.randn(4, generator=seeded_generator(seed, stage, index)).tolist()


def test_latents_follow_from_seed_stage_and_number_alone() -> None:
    assert numbers(0, "train", 3) == numbers(0, "train", 3)


def test_no_two_stages_seeds_or_numbers_share_latents() -> None:
    keys = [
        (seed, stage, i)
        for seed in range(3)
        for stage in ("train", "validation", "held_out", "screen")
        for i in range(20)
    ]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)


def test_torchs_default_device_changes_no_number() -> None:
    with torch.device("meta"):
        drawn = [draw(seeded_generator(0, "train", 0), 2, 3) for draw in (normal, uniform)]
    expected = [draw(seeded_generator(0, "train", 0), 2, 3) for draw in (normal, uniform)]
    assert all(torch.equal(*pair) for pair in zip(drawn, expected, strict=True))


@pytest.mark.parametrize("options", [{}, {"start": "auto", "candidates": ["red", "snow"], "cutouts": 1, "noise": 0.1}])
def test_torchs_default_dtype_changes_no_result(options: dict) -> None:
    options = {**QUICK, "iterations": 2, **options}
    with quick_explainer() as explainer, quick_explainer() as other:
        expected = explainer.explain("boat", **options)
        torch.set_default_dtype(torch.float64)
        try:
            found = other.explain("boat", **options)
        finally:
            torch.set_default_dtype(torch.float32)
    assert_same_result(found, expected)
