"""``diffexplain-fast bench estimate``: whether, and how, an iteration fits a card that is not here."""

from pathlib import Path
from typing import Annotated

import typer


def estimate(
    gpu: Annotated[str, typer.Option(help="card, such as rtx4090")] = "rtx3060",
    model: Annotated[str, typer.Option(help="sd15 (512 pixels), sd21 (768) or sdxl (1024)")] = "sd15",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="denoising steps")] = 20,
    guidance: Annotated[float, typer.Option(help="1 is none, and half the work")] = 7.5,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="images at once")] = 1,
    memory: Annotated[str, typer.Option(help="byte limit, such as 8GiB; auto is 90 % of the card")] = "auto",
    efficiency: Annotated[float | None, typer.Option(help="share of the peak you expect")] = None,
    rows: Annotated[
        Path | None, typer.Option(help="file of bench run: the share that ours reached on the GPU measured there")
    ] = None,
) -> None:
    """Estimate one optimisation iteration on a GPU you do not have.

    Memory and multiplications are counted on the shapes of the public model, in bfloat16, without text encoder and
    classifier. Nothing is run or downloaded.
    """
    from diffexplain_fast.engine.checks import check_guidance
    from diffexplain_fast.engine.memory.plan import parse_bytes
    from diffexplain_fast.errors import unknown_name, wrong_value
    from diffexplain_fast.measuring.bench.rows import read_rows
    from diffexplain_fast.measuring.estimate import CARDS, GIB, measured_efficiency
    from diffexplain_fast.measuring.estimate import estimate as count
    from diffexplain_fast.ops.doctor import TRITON_MISSING
    from diffexplain_fast.prediction.predict import predict
    from diffexplain_fast.prediction.rates import GPUS

    if gpu not in CARDS:
        raise unknown_name("gpu", gpu, CARDS)
    measured = None if rows is None else measured_efficiency(read_rows(rows))
    guided = check_guidance(guidance) != 1.0
    if efficiency is not None and not 0.01 <= efficiency <= 1:
        raise wrong_value("efficiency", "0.01 to 1", efficiency)
    card, limit = CARDS[gpu], parse_bytes(memory)
    limit = int(0.9 * card.gib * GIB) if limit is None else limit
    if limit > card.gib * GIB:
        raise wrong_value("memory", f"at most the {card.gib:g} GiB of {gpu}", repr(memory))
    found = count(model, steps=steps, guided=guided, batch=batch, memory=limit)
    floor = found.flop / (card.tflops * 1e12)
    print(found.plan)
    print(f"\nestimated, for {gpu} ({card.gib:g} GiB, {card.tflops:g} TFLOP/s by its data sheet; nothing was run):")
    print(f"{found.flop / 1e12:.1f} TFLOP an iteration, {1e3 * floor:.0f} ms if it reached its peak, which none does")
    if efficiency is not None:
        print(f"{1e3 * floor / efficiency:.0f} ms at {100 * efficiency:g} % of the peak, as you assume")
    if measured is not None:
        share, source = measured
        print(f"{1e3 * floor / share:.0f} ms at {100 * share:.0f} % of what a large product reaches, as {source},")
        print("if such a product reaches the data sheet's number on this card")
    if gpu in GPUS and not TRITON_MISSING:
        told = predict(model, gpu, steps=steps, guided=guided, batch=batch, memory=limit)
        print(f"{told.ms:.0f} ms by the time model of traced launches (bench model says where they go)")
