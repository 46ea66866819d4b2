"""How strongly searches drive hidden units: ``python -m benchmarks.search.units``.

A unit's rendered maximum is its largest mean response to a value of an attribute, over rendered scenes that differ in
all else (``tinyworld.units``). A search succeeds where the unit's mean response to unseen draws of the found prompt is
at least that. Beside it stands by how much: the response above the mean over all values, in units of the rendered
maximum above that mean. Units are those that respond, evenly spread over the last layer of each shipped classifier.
Rows are appended to a file of JSON lines; rows that are there are not measured again.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.search.cells import CLOSED, LABELS
from benchmarks.search.tables import by_mode
from diffexplain_fast.measuring.bench.rows import append_rows, kept_rows
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.recipe.responses import unit_layers

RESULT = Path(__file__).parents[1] / "results" / "search_units.jsonl"
_OPTIONS: dict[str, dict[str, Any]] = {CLOSED: {"start": "gradient"}, LABELS: {}}
_DRAWS, _RESPONDS = 32, 0.5


def chosen_units(rows: dict[str, torch.Tensor], count: int) -> list[int]:
    """Return units evenly spread over those whose responses to values [C] vary by at least half of the most varied."""
    levels = torch.stack([*rows.values()])
    spread = levels.amax(0) - levels.mean(0)
    units = (spread >= _RESPONDS * spread.median()).nonzero()[:, 0].tolist()
    return units[:: max(1, len(units) // count)][:count]


def measure(explainer: dx.Explainer, layer: str, unit: int, rows: dict[str, torch.Tensor], mode: str) -> dict[str, Any]:
    """Explain one unit; return its row."""
    levels = {value: float(responses[unit]) for value, responses in rows.items()}
    words = {"candidates": list(explainer.classifier.labels or ())} if mode == LABELS else {}
    began = time.process_time()
    found = explainer.explain(f"neuron:{layer}:{unit}", n_images=1, n_score=_DRAWS, **_OPTIONS[mode], **words)
    mean, best = sum(levels.values()) / len(levels), max(levels, key=lambda value: levels[value])
    response = found.activation["held_out"].mean_logit
    return {
        "layer": layer,
        "unit": unit,
        "mode": mode,
        "seed": explainer.seed,
        "best value": best,
        "rendered maximum": levels[best],
        "rendered mean": mean,
        "response": response,
        "of the maximum": (response - mean) / (levels[best] - mean),
        "success": response >= levels[best],
        "by": found.settings["found"]["by"],
        "rows": sum(found.settings["found"]["cost"][kind] for kind in ("forward", "gradient")),
        "CPU seconds": time.process_time() - began,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each mode: units, share at their maximum, its lower Wilson bound, how far, and costs."""
    lines = ["mode    units  at maximum  at least  of the maximum  rows   CPU s"]
    for mode, group, share, least in by_mode(rows, "success"):
        far, spent, seconds = (median(row[key] for row in group) for key in ("of the maximum", "rows", "CPU seconds"))
        lines.append(
            f"{mode:7} {len(group):5d}  {share:10.2f}  {least:8.2f}  {far:14.2f}  {spent:5.0f}  {seconds:5.1f}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for and not measured yet, print a line for each unit, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search.units", description=__doc__)
    parser.add_argument("--units", type=int, default=3, help="so many of each classifier")
    parser.add_argument("--modes", nargs="*", choices=[*_OPTIONS], default=[CLOSED])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="only print the table of what was measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = kept_rows(arguments.out)
    done = {tuple(row[key] for key in ("classifier", "layer", "unit", "mode", "seed")) for row in rows}
    for name in [] if arguments.table else SHIPPED:
        classifier = dx.Classifier.from_pretrained(f"tinyworld/{name}")
        layer = unit_layers(classifier.model)[-1]
        known = dx.tinyworld.units(name)[layer]
        for unit in chosen_units(known, arguments.units):
            for mode in arguments.modes:
                if (name, layer, unit, mode, arguments.seed) in done:
                    continue
                with dx.Explainer("tinyworld", classifier, seed=arguments.seed) as explainer:
                    row = {"classifier": name, **measure(explainer, layer, unit, known, mode)}
                rows.append(row)
                append_rows(arguments.out, [row])
                sys.stdout.write(
                    f"{name} {layer} {unit} {mode}: {row['response']:.3f}, rendered {row['rendered maximum']:.3f}"
                    f" ({row['best value']}), {row['of the maximum']:.2f} of it, {row['by']}, {row['rows']} rows,"
                    f" {row['CPU seconds']:.1f} s\n"
                )
                sys.stdout.flush()
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
