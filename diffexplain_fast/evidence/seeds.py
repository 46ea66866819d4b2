"""Random numbers that need no stored state: every one follows from a seed, a stage and a number."""

import hashlib

import torch
from torch import Tensor


def seeded_generator(seed: int, stage: str, index: int) -> torch.Generator:
    """Return a CPU generator whose state follows from (seed, stage, index) alone.

    Args:
        seed: seed of the explanation.
        stage: what the numbers are for; stages share no numbers.
        index: iteration or image of that stage.
    """
    digest = hashlib.sha256(f"{seed}/{stage}/{index}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Return standard normal numbers on the CPU in single precision, whatever torch's default dtype and device are."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Return numbers from [0, 1) on the CPU in single precision, whatever torch's default dtype and device are."""
    return torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu")
