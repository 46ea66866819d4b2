"""Seeds that need no stored state, and scores of the generator's images."""

import torch

from diffexplain_fast.methods.seeds import seeded_generator


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
