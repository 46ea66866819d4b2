"""The needs of an optimisation iteration on a card that is not here: its plan and its multiplications, counted."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from diffexplain_fast.engine.memory.costs import count_levels, make_plan
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.rivals import OURS
from diffexplain_fast.measuring.bench.rows import Row, figure, group_of
from diffexplain_fast.prediction.parts import prepare

GIB = 2**30


class Card(NamedTuple):
    """A GPU by its data sheet."""

    gib: float  # memory
    tflops: float  # dense half precision with float32 sums, peak


CARDS = {"rtx3060": Card(12, 25.5), "rtx3090": Card(24, 71.0), "rtx4090": Card(24, 165.2), "rtx5090": Card(32, 209.5)}
CARDS |= {"rtx4070": Card(12, 58.3), "a100": Card(80, 312.0), "h100": Card(80, 990.0), "h200": Card(141, 990.0)}
"""The cards of ``prediction.rates``. GeForce figures are third parties' tables; none is measured here."""


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
    parts = prepare(model, steps=steps, guided=guided, batch=batch, dtype=dtype)
    counted = count_levels(parts.denoiser, parts.decoder, parts.modules, parts.request)
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
