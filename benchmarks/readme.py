"""The README's table of numbers, rendered from the committed results: ``python -m benchmarks.readme``."""

import statistics
from pathlib import Path

from diffexplain_fast.measuring.bench.rivals import OURS
from diffexplain_fast.measuring.bench.rows import latest, read_rows
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
TABLE = Path(__file__).with_name("readme_table.md").read_text(encoding="utf-8").rstrip()


def table() -> str:
    """Return the whole table with date, device and commands beneath it."""
    bars, gates = (read_json(RESULTS / f"tinyworld-{name}.json") for name in ("bars", "gates"))
    rows = bars["rows"]
    shown = [row["shortcut shown"] for row in rows if "shortcut" in row]
    by_words = sum(row["iterations"] == Options.patience for row in rows)  # every step found its pictures convincing
    parts = ("object", "background", "companion", "colour")
    # The last measured row of every rival on the tiny world, on the CPU it was last measured on.
    measured = [row for row in read_rows(RESULTS / "iteration-cpu.jsonl") if "refused" not in row]
    rivals = [found for group, found in latest(measured).items() if group.workload == "tinyworld"][-1]
    ours = rivals[OURS]
    peaks = {name: f"{row['peak_bytes'] / 2**20:.0f} MiB" for name, row in rivals.items()}
    said = (f"| ... {SHOWN[name]} | {rivals[name]['times_ours']:.2f} times as long, {peaks[name]} |" for name in SHOWN)
    held, names = ([row[f"{kind} rate"] for row in rows] for kind in ("held-out", "class-name"))
    fields = {"begin": BEGIN, "end": END, "device": ours["device"], "date": ours["date"], "others": "\n".join(said)}
    fields |= {"pairs": len(rows), "held": statistics.mean(held), "name": statistics.mean(names), "by_words": by_words}
    fields |= {"shortcuts": len(shown), "shown": statistics.mean(shown), "least": min(shown)}
    fields |= {"drawn": ", ".join(f"{gates['values'][f'generated {part}']:.3f}" for part in parts)}
    return TABLE.format(**fields, ours=f"{1e3 * ours['median_s']:.0f} ms, {peaks[OURS]}")


def rendered(readme: str) -> str:
    """Return a README with its table replaced."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + table() + tail


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
