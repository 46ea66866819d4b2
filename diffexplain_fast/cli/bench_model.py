"""``diffexplain-fast bench model``: where the milliseconds of an iteration would go on a card that is not here."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from diffexplain_fast.cli import options
from diffexplain_fast.cli.json_line import print_json

if TYPE_CHECKING:
    from diffexplain_fast.prediction.predict import Prediction

_BATCH = Annotated[
    list[int],
    typer.Option(
        min=1, max=1024, help="Images at once. May be repeated: a table compares them, the rest is of the first."
    ),
]


def model(
    gpu: Annotated[str, typer.Option(help='Card, such as "h200" or "rtx4090".')] = "h200",
    model: Annotated[str, typer.Option(help='"sd15" (512 pixels), "sd21" (768) or "sdxl" (1024).')] = "sd15",
    memory: Annotated[str, typer.Option(help='Byte limit, such as "5GiB"; "auto" is no limit.')] = "auto",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="1 is none, and half the work.")] = 7.5,
    batch: _BATCH = [1],  # noqa: B006 - typer reads it
    check: Annotated[bool, typer.Option(help="Predict the measured compiled stack too, and print the error.")] = True,
    kernels: Annotated[bool, typer.Option(help="Print the launches of a step that keeps all, by kernel.")] = False,
    as_json: options.OneJson = False,
) -> None:
    """Predict the milliseconds of one iteration on another GPU.

    From traced launches and a table of the card's rates; nothing is run or downloaded. It needs the package triton, on
    Linux (pip install triton), which a torch for the CPU does not bring, and no GPU. In bfloat16, every part
    replayed from a recorded graph, without text encoder and classifier. The rates are fixed: a copy, a large product
    and convolutions of one H200 were measured, the rest is estimated from them.
    """
    from functools import partial

    from diffexplain_fast.engine.checks import check_guidance
    from diffexplain_fast.engine.memory.plan import parse_bytes
    from diffexplain_fast.errors import unknown_name
    from diffexplain_fast.measuring.estimate import GIB
    from diffexplain_fast.prediction.compiled import MEASURED_MS, compiled_milliseconds
    from diffexplain_fast.prediction.predict import predict
    from diffexplain_fast.prediction.rates import GPUS

    if gpu not in GPUS:
        raise unknown_name("gpu", gpu, GPUS)
    guided = check_guidance(guidance) != 1.0
    run = partial(predict, model, gpu, steps=steps, guided=guided, memory=parse_bytes(memory))
    found, batches = _compared(batch, run)
    stack = compiled_milliseconds(GPUS["h200"]) if check else None
    record = found._asdict() | {"kernels": [kernel._asdict() for kernel in found.kernels]}
    record |= {"gib": found.plan.peak / GIB, "plan": found.plan.summary, "gpu": gpu, "model": model}
    record["batches"] = batches
    if stack is not None:
        record["compiled_stack"] = {"predicted_ms": stack, "measured_ms": MEASURED_MS, "gpu": "h200"}
    if as_json:
        print_json(record)
        return
    print(found.plan)
    each = f"{found.ms:.0f} ms an iteration, {found.ms / batch[0]:.0f} ms a picture"
    print(f"\npredicted for {gpu} (nothing was run): {each}")
    if len(batches) > 1:
        print("\n".join(_table(batches)))
    for family, ms in sorted(found.families.items(), key=lambda item: -item[1]):
        print(f"{family:12} {ms:7.1f} ms  {100 * ms / found.ms:3.0f} %")
    print(f"{found.launches_forward} launches forward and {found.launches_backward} backward in a step that keeps all,")
    print(f"{found.launches} in the whole iteration")
    if kernels:
        _print_kernels(found)
    if stack is not None:
        error = 100 * (stack / MEASURED_MS - 1)
        print(f"the model itself: {stack:.0f} ms for the compiled stack, measured {MEASURED_MS} ms ({error:+.1f} %)")


def _compared(
    sizes: Sequence[int], run: "Callable[..., Prediction]"
) -> "tuple[Prediction, list[Mapping[str, object]]]":
    """Return the prediction for the first number of images, and a row for each number.

    Raises:
        ValueError: the first number does not fit into the limit; one of the others has a row that says so.
    """
    from diffexplain_fast.measuring.estimate import GIB

    first = run(batch=sizes[0])
    rows = list[Mapping[str, object]]()
    for size in dict.fromkeys(sizes):
        try:
            found = first if size == sizes[0] else run(batch=size)
        except ValueError as error:
            rows.append({"batch": size, "refused": str(error)})
            continue
        row = {"batch": size, "gib": found.plan.peak / GIB, "ms": found.ms, "ms_a_picture": found.ms / size}
        rows.append(row | {"plan": found.plan.summary})
    return first, rows


def _print_kernels(found: "Prediction") -> None:
    print("\nlaunches of a step that keeps all, forward and backward, and their milliseconds with the gaps between:")
    for kernel in found.kernels:
        print(f"{kernel.family:12} {kernel.name:48} {kernel.forward:4} {kernel.backward:4} {kernel.ms:8.3f} ms")


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the lines of a table of the numbers of images."""
    lines = [f"{'images':>6} {'GiB':>7} {'ms':>9} {'ms a picture':>13}  levels"]
    for row in rows:
        if "refused" in row:
            lines.append(f"{row['batch']:>6} {row['refused']}")
        else:
            lines.append(
                f"{row['batch']:>6} {row['gib']:7.2f} {row['ms']:9.0f} {row['ms_a_picture']:13.1f}  {row['plan']}"
            )
    return lines
