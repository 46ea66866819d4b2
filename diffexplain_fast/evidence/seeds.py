"""Random numbers without stored state: each one depends only on a seed, a stage and a number."""

import hashlib

import torch
from torch import Tensor


def seeded_generator(seed: int, stage: str, index: int) -> torch.Generator:
    """Return a CPU generator whose state depends only on (seed, stage, index).

    Args:
        seed: seed of the explanation.
        stage: purpose of the numbers; different stages share no numbers.
        index: iteration or image of that stage.
    """
    digest = hashlib.sha256(f"{seed}/{stage}/{index}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Return standard normal numbers on the CPU in single precision, for any default dtype and device of torch."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Return numbers from [0, 1) on the CPU in single precision, for any default dtype and device of torch."""
    return torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu")
