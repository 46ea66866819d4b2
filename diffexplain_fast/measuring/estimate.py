"""The needs of an optimisation iteration on a card that is not here: its plan and its multiplications, counted."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from diffexplain_fast.engine.lean.decoder import LeanDecoder
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.costs import Request, count_levels, make_plan
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.memory.workspaces import CUBLAS_HOPPER, CUBLAS_PAIRS
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.rivals import OURS
from diffexplain_fast.measuring.bench.rows import Row, figure, group_of
from diffexplain_fast.models.public import PUBLIC, public_models

GIB = 2**30


class Card(NamedTuple):
    """A GPU by its data sheet."""

    gib: float  # memory
    tflops: float  # dense half precision with float32 sums, peak


CARDS = {"rtx3060": Card(12, 25.5), "rtx3090": Card(24, 71.0), "rtx4090": Card(24, 165.2), "rtx5090": Card(32, 209.5)}
CARDS |= {"a100": Card(80, 312.0), "h100": Card(80, 990.0), "h200": Card(141, 990.0)}
"""GeForce figures are third parties' tables; none is measured here."""


class Estimate(NamedTuple):
    """The needs of an iteration, from prompt embeddings to images and back."""

    plan: Plan  # the tensors that each step keeps, and the predicted peak
    flop: float  # multiplications and additions of forward and backward, with those that are computed again


def estimate(
    model: str,
    *,
    steps: int = 20,
    guided: bool = True,
    batch: int = 1,
    memory: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Estimate:
    """Count an iteration of the fast engine with the Triton kernels, without text encoder and classifier.

    Args:
        model: "sd15", "sd21" or "sdxl", at its own size.
        steps: denoising steps, at least 1.
        guided: with unconditional rows, whose embeddings and start noise stay.
        batch: images, at least 1.
        memory: byte limit, weights of UNet and VAE included; None for none.
        dtype: of the models.

    Raises:
        ValueError: no such model, or nothing fits into the limit; the message says what is needed.
    """
    unet, vae = public_models(model, dtype)
    denoiser, decoder = LeanUNet(unet, "triton"), LeanDecoder(vae, "triton")
    size, rows = unet.config.sample_size, 2 * batch if guided else batch
    with torch.device("meta"):
        sample = torch.empty(batch, unet.config.in_channels, size, size)
        embeds = torch.empty(rows, PUBLIC[model].tokens, unet.config.cross_attention_dim, dtype=dtype)
        shifts = [torch.empty(1, block.conv1.weight.shape[0], dtype=dtype) for block in denoiser.resnets()]
    cublas = CUBLAS_PAIRS * CUBLAS_HOPPER  # the most of all cards
    request = Request(sample, denoiser.project(embeds), shifts, steps, 0, guided, False, cublas=cublas)
    counted = count_levels(denoiser, decoder, (unet, vae), request)
    plan = make_plan(counted, memory)
    costs = [cost[level] for cost, level in zip(counted.steps, plan.levels[:-1], strict=True)]
    return Estimate(plan, sum(cost.time for cost in costs) + counted.heads[plan.levels[-1]].time)


def measured_efficiency(rows: Iterable[Row]) -> tuple[float, str]:
    """Return share of the FLOP/s of a large product, and source, of the last row of ours on a GPU in half precision."""
    ours = [row for row in rows if row["rival"] == OURS and row["dtype"] in ("bfloat16", "float16")]
    measured = [row for row in ours if row.get("gpu") and figure(row, "share_of_ceiling")]
    if not measured:
        wanted = f"a file with a row of {OURS!r}, measured on a GPU in bfloat16 or float16 (bench run --device cuda)"
        raise wrong_value("rows", wanted, "none of them")
    last = measured[-1]
    workload, dtype, device = group_of(last)
    return last["share_of_ceiling"], f"{workload} in {dtype} on {device}, {last['date']}"
