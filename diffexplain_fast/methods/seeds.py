"""Random numbers that need no stored state: every one follows from a seed, a stage and a number."""

import hashlib

import torch


def seeded_generator(seed: int, stage: str, index: int) -> torch.Generator:
    """Return a CPU generator whose state follows from (seed, stage, index) alone.

    Args:
        seed: seed of the explanation.
        stage: what the numbers are for; stages share no numbers.
        index: iteration or image of that stage.
    """
    digest = hashlib.sha256(f"{seed}/{stage}/{index}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
