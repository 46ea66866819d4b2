"""How often both cues of an either-or class are found: ``python -m benchmarks.search.either``.

Cells are the classes of the truth suite for which one of two values is enough (``any_of``). Each is explained with
``modes=2``, without any word and with the labels as the only words. Both are found where the two explanations are of
different values: each convinces, as in ``benchmarks.search``, and shows its value in more than half of 32 unseen draws,
as the tiny world's probe sees them. Rows are appended to a file of JSON lines; rows that are there are not measured
again.
"""

import argparse
import json
import sys
import time
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.search.__main__ import SLACK, SUCCESS, captions, held_out
from benchmarks.search.cells import CLOSED, LABELS, Cell
from benchmarks.search.rivals import problem_of
from benchmarks.search.tables import by_mode
from benchmarks.truth.cells import Planned, classifier_of, whole_list
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.measuring.bench.rows import append_rows, kept_rows
from diffexplain_fast.tinyworld.store import load_probe, name_attributes

RESULT = Path(__file__).parents[1] / "results" / "either.jsonl"
_DRAWS = 32
_OPTIONS: dict[str, dict[str, Any]] = {CLOSED: {"start": "gradient"}, LABELS: {}}


def either_cells(classifiers: int) -> list[tuple[Planned, str, list[tuple[str, str]]]]:
    """Return classifier, class and its two attributes and values, of the first classifiers of the suite's pairs."""
    pairs = [planned for planned in whole_list() if planned.name.startswith("pairs-")][:classifiers]
    return [
        (planned, cell.label, [*cell.cue.values])
        for planned in pairs
        for cell in planned.cells
        if cell.kind == "any_of"
    ]


def measure(explainer: dx.Explainer, label: str, values: list[tuple[str, str]], mode: str) -> dict[str, Any]:
    """Explain a class twice; return its row."""
    candidates = {"candidates": list(explainer.classifier.labels or ())} if mode == LABELS else {}
    began = time.process_time()
    first = explainer.explain(label, modes=2, n_images=_DRAWS, n_score=_DRAWS, **_OPTIONS[mode], **candidates)
    seconds, explanations = time.process_time() - began, [first, *first.others]
    problem, probe = problem_of(explainer, label), load_probe()
    found = []
    for one in explanations:
        seen, costs = name_attributes(probe, as_pixels(one.images, (64, 64))), one.settings["found"]["cost"]
        found.append(
            {
                "rate": one.activation["held_out"].rate,
                "shows": {value: sum(each.get(name) == value for each in seen) / len(seen) for name, value in values},
                "by": one.settings["found"]["by"],
                "words": one.named["words"] if one.named else one.settings["start"],
                "rows": costs["forward"] + costs["gradient"],
            }
        )
    unsure = [value for _, value in values if any(one["shows"][value] > 0.5 and one["rate"] < SUCCESS for one in found)]
    best = {
        value: max(held_out(problem, problem.pipeline.encode_text([text])) for text in captions(Cell("", label, value)))
        for value in unsure
    }
    return {
        "label": label,
        "values": values,
        "mode": mode,
        "seed": explainer.seed,
        "best caption": best,
        "found": found,
        "both": both(found, [value for _, value in values], best),
        "CPU seconds": seconds,
    }


def both(found: list[dict[str, Any]], values: list[str], best: dict[str, float]) -> bool:
    """Return whether two explanations are of the two values, in either order.

    Args:
        found: rate, and share of the draws that show each value, of each explanation.
        values: the two values.
        best: value to the rate of its best true caption, where an explanation that shows it convinces too rarely.
    """

    def of(one: dict[str, Any], value: str) -> bool:
        return bool(one["shows"][value] > 0.5 and one["rate"] >= min(SUCCESS, best.get(value, 1.0) - SLACK))

    return any(all(map(of, order, values)) for order in permutations(found, len(values)))


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each mode: cells, share of those with both found, its lower Wilson bound, and median costs."""
    lines = ["mode    cells  both  at least  rows   CPU s"]
    for mode, group, share, least in by_mode(rows, "both"):
        spent = median(sum(one["rows"] for one in row["found"]) for row in group)
        seconds = median(row["CPU seconds"] for row in group)
        lines.append(f"{mode:7} {len(group):5d}  {share:.2f}  {least:8.2f}  {spent:5.0f}  {seconds:5.1f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for and not measured yet, print a line for each cell, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search.either", description=__doc__)
    parser.add_argument("--classifiers", type=int, default=2, help="so many classifiers, of two cells each")
    parser.add_argument("--modes", nargs="*", choices=[*_OPTIONS], default=[*_OPTIONS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="only print the table of what was measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = kept_rows(arguments.out)
    done = {tuple(row[key] for key in ("classifier", "label", "mode", "seed")) for row in rows}
    for planned, label, values in [] if arguments.table else either_cells(arguments.classifiers):
        for mode in arguments.modes:
            if (planned.name, label, mode, arguments.seed) in done:
                continue
            with dx.Explainer("tinyworld", classifier_of(planned), seed=arguments.seed) as explainer:
                row = {"classifier": planned.name, **measure(explainer, label, values, mode)}
            rows.append(row)
            append_rows(arguments.out, [row])
            sys.stdout.write(f"{json.dumps(row)}\n")
            sys.stdout.flush()
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
