"""The README's table of numbers, rendered from what was measured: ``python -m benchmarks.readme``."""

import statistics
from pathlib import Path

from diffexplain_fast.measuring.bench.rivals import OURS
from diffexplain_fast.measuring.bench.rows import Row, latest, read_rows
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.storage import read_json

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- numbers: python -m benchmarks.readme -->", "<!-- end of numbers -->"
SHOWN = {
    "ours, one sample per step": 'with `gradient="checkpointed"`',
    "diffusers block checkpointing": "with diffusers and its block checkpointing",
    "plain autograd": "with plain autograd through diffusers",
}
"""Rivals in the table, and how the table calls them."""


def latest_iterations() -> dict[str, Row]:
    """Return the last measured row of every rival on the tiny world, on the CPU it was last measured on."""
    rows = [row for row in read_rows(RESULTS / "iteration-cpu.jsonl") if "refused" not in row]
    own = {group: found for group, found in latest(rows).items() if group.workload == "tinyworld"}
    return list(own.values())[-1]


def quality() -> list[str]:
    """Return the rows on explanations and on the generator."""
    bars, gates = (read_json(RESULTS / f"tinyworld-{name}.json") for name in ("bars", "gates"))
    rows, values = bars["rows"], gates["values"]
    held = statistics.mean(row["held-out rate"] for row in rows)
    name = statistics.mean(row["class-name rate"] for row in rows)
    shown = [row["shortcut shown"] for row in rows if "shortcut" in row]
    by_words = sum(row["iterations"] == Options.patience for row in rows)  # every step found its pictures convincing
    drawn = ", ".join(f"{values[f'generated {part}']:.3f}" for part in ("object", "background", "companion", "colour"))
    return [
        f"| activation rate on unseen draws, mean over {len(rows)} pairs of classifier and class (class name alone: "
        f"{name:.2f}) | {held:.2f} |",
        f"| ... reached by the words tried first, without a step of the gradient | {by_words} of {len(rows)} |",
        f"| planted shortcut visible in the pictures, mean (least) over {len(shown)} shortcut classes | "
        f"{statistics.mean(shown):.2f} ({min(shown):.2f}) |",
        f"| generator draws what the caption says: object, background, companion, colour | {drawn} |",
    ]


def speed() -> list[str]:
    """Return the rows on one optimisation iteration."""
    rows = latest_iterations()
    ours = rows[OURS]
    setting = "one optimisation iteration (2 pictures, 8 steps, guidance); tensors alive at once"
    found = [f"| {setting} | {1e3 * ours['median_s']:.0f} ms, {_mebibytes(ours)} |"]
    for name, shown in SHOWN.items():
        row = rows[name]
        found.append(f"| ... {shown} | {row['times_ours']:.2f} times as long, {_mebibytes(row)} |")
    return found


def _mebibytes(row: Row) -> str:
    return f"{row['peak_bytes'] / 2**20:.0f} MiB"


def table() -> str:
    """Return the whole table with date, device and commands beneath it."""
    ours = latest_iterations()[OURS]
    device = ours["device"]
    where = f"{device['cpu']}, {device['threads']} threads, {ours['date']}"
    lines = [f"| measured on tinyworld ({where}) | |", "|---|---|", *quality(), *speed()]
    below = "From `make bars` and `make bench` (`benchmarks/results/`). On a GPU: not measured yet."
    return "\n".join([BEGIN, *lines, "", below, END])


def rendered(readme: str) -> str:
    """Return a README with its table replaced."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + table() + tail


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
