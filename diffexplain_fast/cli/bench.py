"""``diffexplain-fast bench``: one optimisation iteration, ours beside what people do today, on this machine."""

import math
import os
import shlex
import signal
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffexplain_fast.cli import options
from diffexplain_fast.cli.output import check_file, check_folder
from diffexplain_fast.cli.own_files import check_readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

    from diffexplain_fast.measuring.bench.rows import Row
    from diffexplain_fast.measuring.bench.workloads import Make, Workload


_File = Annotated[Path, typer.Argument(help="File of JSON lines that bench run has appended to.")]
_FILE = Path("bench.jsonl")
_HEAD = f"{'':36} {'median':>9} {'20-80 %':>17} {'x ours':>7} {'peak MiB':>9} {'ceiling':>8} {'gradient':>9}"
_Budgets = Annotated[
    list[str] | None,
    typer.Option(
        help='Memory at which ours is measured too, such as "8GiB", or "33%" of the way from one sample kept per '
        "step to everything kept. May be given many times; by default 33% and 67% where no rival is named."
    ),
]


def run(
    workload: Annotated[
        str,
        typer.Option(help='"tinyworld", or with random weights "sd15", "sd15-50", "sd15-lcm4", "sd21" or "sdxl-4".'),
    ] = "tinyworld",
    pipeline: Annotated[str | None, typer.Option(help="Folder or hub id, in place of a workload.")] = None,
    scheduler: options.Scheduler = None,
    rival: Annotated[list[str] | None, typer.Option(help="May be repeated; by default all but slow ones.")] = None,
    budget: _Budgets = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; by default the workload's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is none.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images of one iteration.")] = None,
    dtype: options.Dtype = "float32",
    rounds: Annotated[int, typer.Option(help="How often each is measured, by turns.")] = 9,
    seconds: Annotated[float | None, typer.Option(min=1, help="After this nothing more is begun.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=os.cpu_count(), help="By default torch's choice.")] = None,
    out: Annotated[Path, typer.Option(help="File that a JSON line for each rival is appended to.")] = _FILE,
    device: options.Device = None,
) -> None:
    """Measure one iteration, ours beside what people do today.

    All are built on the same weights, inputs and seeds. Each one's gradient is first compared with plain autograd's; if
    it differs, or if it stops, it gets no figures but a reason, and the exit code is 1. Each row is written as soon as
    it is known; SIGINT, SIGTERM and the end of --seconds leave all that were.
    """
    until = math.inf if seconds is None else time.monotonic() + seconds
    with _interruptible():
        import torch

        from diffexplain_fast.cli.device import chosen_device, chosen_dtype
        from diffexplain_fast.errors import unknown_name
        from diffexplain_fast.measuring.bench.budgets import DEFAULT, budget_name
        from diffexplain_fast.measuring.bench.compare import BOUNDS, compare, verdict
        from diffexplain_fast.measuring.bench.rivals import BASELINES, ON_REQUEST, OURS, RIVALS

        precision = chosen_dtype(dtype)
        check_file(out)
        place = chosen_device(device)
        torch.set_num_threads(threads or torch.get_num_threads())
        for name in rival or ():
            if name not in RIVALS:
                raise unknown_name("rival", name, RIVALS)
        # Those that are named or the usual ones, ours, and those that ours is judged by.
        usual = (name for name in RIVALS if name not in ON_REQUEST)
        names = list(dict.fromkeys([*(rival or usual), OURS, *BASELINES]))
        named, make = _workload(workload, pipeline, scheduler, (steps, guidance, batch))
        budgets = (budget or ()) if rival or budget else DEFAULT
        say = partial(print, flush=True)
        measured = compare(make, precision, place, names, budgets=budgets, rounds=rounds, until=until, say=say)
        rows = _written(out, named, dtype, place, measured)
        if late := [name for name in (*names, *map(budget_name, budgets)) if name not in rows]:
            say(f"not reached in {seconds:g} s: {', '.join(late)}")
        problem = verdict(rows, BOUNDS.get(named, {}) if place.type == "cpu" else {})
        if problem or not rows:
            print(problem or "nothing was measured in time", file=sys.stderr)
            raise typer.Exit(1)


@contextmanager
def _interruptible() -> "Iterator[None]":
    """Let SIGINT and SIGTERM interrupt, also what a shell has started in the background, where SIGINT is ignored."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask for signals
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _written(
    out: Path, workload: str, dtype: str, device: "torch.device", rows: "Iterable[tuple[str, Row]]"
) -> "dict[str, Row]":
    """Append and print each row as soon as it is there, and return the rows by rival."""
    from diffexplain_fast.measuring.bench.rows import about, append_rows

    written: dict[str, Row] = {}
    record = about(shlex.join(["diffexplain-fast", *sys.argv[1:]]), workload, dtype, device)
    for name, row in rows:
        append_rows(out, [record | {"rival": name} | row])
        print(_line(name, row) if written else f"{_HEAD}\n{_line(name, row)}", flush=True)
        written[name] = row
    return written


def _workload(
    name: str, pipeline: str | None, scheduler: str | None, changes: tuple[int | None, float | None, int | None]
) -> "tuple[str, Make]":
    """The name of a workload with changed steps, guidance and batch, and the function that makes it."""
    from diffexplain_fast.errors import unknown_name, wrong_value
    from diffexplain_fast.measuring.bench.workloads import WORKLOADS, of_pipeline

    if pipeline is None and scheduler is not None:
        raise wrong_value("--scheduler", "--pipeline beside it (a workload has a scheduler of its own)", scheduler)
    if pipeline is None and name not in WORKLOADS:
        raise unknown_name("workload", name, WORKLOADS)
    base = WORKLOADS[name] if pipeline is None else partial(of_pipeline, source=pipeline, scheduler=scheduler)

    def make(device: "torch.device", dtype: "torch.dtype") -> "Workload":
        steps, guidance, batch = changes
        return base(device, dtype).with_options(steps=steps, guidance_scale=guidance, batch=batch)

    title = name if pipeline is None else Path(pipeline).name if Path(pipeline).is_dir() else pipeline
    given = zip(("steps", "guidance", "batch"), changes, strict=True)
    title = title if scheduler is None else f"{title}, scheduler {scheduler}"
    return ", ".join([title, *(f"{key} {value:g}" for key, value in given if value is not None)]), make


def _line(name: str, row: "Row") -> str:
    if "refused" in row:
        return f"{name:36} refused: {row['refused']}"
    times = f"{1e3 * row['median_s']:6.0f} ms {1e3 * row['low_s']:7.0f}-{1e3 * row['high_s']:.0f} ms"
    ratio = "" if row["times_ours"] is None else f"{row['times_ours']:.2f}"
    share = "" if row["share_of_ceiling"] is None else f"{100 * row['share_of_ceiling']:.0f} %"
    peak, distance = row["peak_bytes"] / 2**20, row["gradient_distance"]
    return f"{name:36} {times:>27} {ratio:>7} {peak:9.1f} {share:>8} {distance:9.1e}"


def _rows(argument: str, file: Path) -> "list[Row]":
    """Return the rows of a file, which an argument of this name gives."""
    from diffexplain_fast.measuring.bench.rows import read_rows

    check_readable(argument, file, "a file of JSON lines from bench run")
    return read_rows(file)


def report(
    file: _File = _FILE,
    out: Annotated[Path, typer.Option(help="Folder for report.md and its pictures.")] = Path("bench"),
) -> None:
    """Show the latest row of each rival in tables and pictures.

    Pictures need matplotlib: pip install 'diffexplain-fast[plot]'. Without it the report has only the tables.
    """
    from diffexplain_fast.measuring.bench.report import REPORT, write_report

    check_folder(out, [REPORT])
    print(f"Open {write_report(_rows('file', file), out)}")


def agree(
    file: _File = _FILE,
    within: Annotated[float, typer.Option(help="Share by which two ratios may differ.")] = 0.1,
) -> None:
    """Check whether the last two runs agree.

    Compares the ratio of every rival's time to ours, in runs of the same workload, dtype and device; exit code 1 if a
    ratio differs more, or one is missing.
    """
    from diffexplain_fast.measuring.bench.report import agreements

    compared = agreements(_rows("file", file), within)
    for each in compared:
        print(f"{', '.join(each.group)}: {' and '.join(each.runs)}")
        for name, pair in each.ratios.items():
            first, second = ("-" if ratio is None else f"{ratio:.2f}" for ratio in pair)
            print(f"{name:36} {first:>7} {second:>7}{'  differs' if name in each.differing else ''}")
        for name, runs in each.missing.items():
            print(f"{name}: no times_ours in {' and '.join(runs)}")
    if any(each.differing for each in compared):
        raise typer.Exit(1)


def estimate(
    gpu: Annotated[str, typer.Option(help='Card, such as "rtx4090".')] = "rtx3060",
    model: Annotated[str, typer.Option(help='"sd15" (512 pixels), "sd21" (768) or "sdxl" (1024).')] = "sd15",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="1 is none, and half the work.")] = 7.5,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Images at once.")] = 1,
    memory: Annotated[str, typer.Option(help='Byte limit, such as "8GiB"; "auto" is 90 % of the card.')] = "auto",
    efficiency: Annotated[float | None, typer.Option(help="Share of the peak you expect.")] = None,
    rows: Annotated[
        Path | None, typer.Option(help="File of bench run: the share that ours reached on the GPU measured there.")
    ] = None,
) -> None:
    """Estimate memory and work of one iteration on any GPU.

    Memory and multiplications are counted on the shapes of the public model, in bfloat16, without text encoder and
    classifier. Nothing is run or downloaded.
    """
    from diffexplain_fast.engine.checks import check_guidance
    from diffexplain_fast.engine.memory.plan import parse_bytes
    from diffexplain_fast.errors import unknown_name, wrong_value
    from diffexplain_fast.measuring.estimate import CARDS, GIB, measured_efficiency
    from diffexplain_fast.measuring.estimate import estimate as count
    from diffexplain_fast.ops.doctor import TRITON_MISSING
    from diffexplain_fast.prediction.predict import predict
    from diffexplain_fast.prediction.rates import GPUS

    if gpu not in CARDS:
        raise unknown_name("gpu", gpu, CARDS)
    measured = None if rows is None else measured_efficiency(_rows("--rows", rows))
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
