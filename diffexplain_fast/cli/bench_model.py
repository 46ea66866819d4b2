"""``diffexplain-fast bench model``: where the milliseconds of an iteration would go on a card that is not here."""

import json
from typing import Annotated

import typer

from diffexplain_fast.cli import options


def model(
    gpu: Annotated[str, typer.Option(help='Card, such as "h200" or "rtx4090".')] = "h200",
    model: Annotated[str, typer.Option(help='"sd15" (512 pixels), "sd21" (768) or "sdxl" (1024).')] = "sd15",
    memory: Annotated[str, typer.Option(help='Byte limit, such as "5GiB"; "auto" is no limit.')] = "auto",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="1 is none, and half the work.")] = 7.5,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Images at once.")] = 1,
    check: Annotated[bool, typer.Option(help="Predict the measured compiled stack too, and print the error.")] = True,
    kernels: Annotated[bool, typer.Option(help="Print the launches of a step that keeps all, by kernel.")] = False,
    as_json: options.OneJson = False,
) -> None:
    """Predict the milliseconds of one iteration on another GPU.

    From traced launches and a table of the card's rates; nothing is run or downloaded. In bfloat16, every part
    replayed from a recorded graph, without text encoder and classifier. The rates are fixed: a copy, a large product
    and convolutions of one H200 were measured, the rest is estimated from them.
    """
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
    found = predict(model, gpu, steps=steps, guided=guided, batch=batch, memory=parse_bytes(memory))
    stack = compiled_milliseconds(GPUS["h200"]) if check else None
    record = found._asdict() | {"kernels": [kernel._asdict() for kernel in found.kernels]}
    record |= {"gib": found.plan.peak / GIB, "plan": found.plan.summary, "gpu": gpu, "model": model}
    if stack is not None:
        record["compiled_stack"] = {"predicted_ms": stack, "measured_ms": MEASURED_MS, "gpu": "h200"}
    if as_json:
        print(json.dumps(record))
        return
    print(found.plan)
    print(
        f"\npredicted for {gpu} (nothing was run): {found.ms:.0f} ms an iteration, {found.ms / batch:.0f} ms a picture"
    )
    for family, ms in sorted(found.families.items(), key=lambda item: -item[1]):
        print(f"{family:12} {ms:7.1f} ms  {100 * ms / found.ms:3.0f} %")
    print(f"{found.launches_forward} launches forward and {found.launches_backward} backward in a step that keeps all,")
    print(f"{found.launches} in the whole iteration")
    if kernels:
        print(
            "\nlaunches of a step that keeps all, forward and backward, and their milliseconds with the gaps between:"
        )
        for kernel in found.kernels:
            print(f"{kernel.family:12} {kernel.name:48} {kernel.forward:4} {kernel.backward:4} {kernel.ms:8.3f} ms")
    if stack is not None:
        error = 100 * (stack / MEASURED_MS - 1)
        print(f"the model itself: {stack:.0f} ms for the compiled stack, measured {MEASURED_MS} ms ({error:+.1f} %)")
