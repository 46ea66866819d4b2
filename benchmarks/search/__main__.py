"""How often a search finds what a class answers to, and at what cost: ``python -m benchmarks.search``.

A cell is a class of a classifier, a mode and a seed; see ``cells``. A search succeeds where at least 0.9 of unseen
draws of its prompt are recognised as the class, or as many as of the best true caption, less 0.05: what the generator
cannot draw no search can find. The cost is what is spent before the result is scored on unseen draws: the search, and
the naming of what it found, whose part is told apart.
Rows are appended to a file of JSON lines; rows that are there are not measured again.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.search.cells import (
    CLOSED,
    MODES,
    OPEN,
    SUITE_KINDS,
    Cell,
    all_cells,
    classifier_of,
    enlarged,
    subset,
    suite_cells,
)
from benchmarks.search.name_cells import meaning
from benchmarks.search.rivals import OURS, RIVALS, problem_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.measuring.bench.rows import append_rows, kept_rows
from diffexplain_fast.stats.intervals import wilson_interval

RESULT = Path(__file__).parents[1] / "results" / "search.jsonl"
_DRAWS, SUCCESS, SLACK = 32, 0.9, 0.05
_NEUTRAL = "a"
_COSTS = ("rows forward", "rows with gradient", "CPU seconds", "naming CPU seconds", "words drawn")


def measure(explainer: dx.Explainer, cell: Cell, mode: str, name: str, budget: str | None) -> dict[str, Any]:
    """Search one cell with one method; return its row."""
    began = time.process_time()
    found = RIVALS[name].search(explainer, cell.label, mode, budget)
    seconds = time.process_time() - began - found.scoring
    problem = problem_of(explainer, cell.label)
    rate = found.rate if found.rate is not None else held_out(problem, problem.encode_soft(found.soft))
    best = (
        None
        if rate >= SUCCESS
        else max(held_out(problem, problem.pipeline.encode_text([text])) for text in captions(cell))
    )
    return {
        "method": name,
        "mode": mode,
        **cell._asdict(),
        "kind": cell.kind,
        "seed": explainer.seed,
        "budget": budget,
        "rate": rate,
        "best caption": best,
        "success": rate >= SUCCESS or (best is not None and rate >= best - SLACK),
        "words": found.words,
        "words drawn": found.words_drawn,
        "by": found.by,
        "rows forward": found.forward,
        "rows with gradient": found.gradient,
        "CPU seconds": seconds,
        "naming rows": found.naming_rows,
        "naming CPU seconds": found.naming,
    }


def says_cue_first(words: Sequence[str], cue: str) -> bool:
    """Return whether words say every word of a cue, in any order, before any other word than "a".

    A group of one value says it, as "sky" does for a night.
    """
    said, wanted = [_plainest(word) for word in dict.fromkeys(words) if word != _NEUTRAL], set(cue.split())
    return set(said[: len(wanted)]) == wanted


def _plainest(word: str) -> str:
    """Return the one value that a word means, else the word."""
    meant = meaning(word)
    return meant[1][0] if meant is not None and len(meant[1]) == 1 else word


def held_out(problem: Problem, conditioning: Any) -> float:
    """Return the share of unseen draws that are recognised as the class."""
    with torch.no_grad():
        hits = [scores.hit for _, scores in problem.batches(conditioning, "held_out", _DRAWS) if scores.hit is not None]
    return float(torch.cat(hits).float().mean())


def captions(cell: Cell) -> list[str]:
    """Return captions that say the cue, alone and of the class's own object."""
    cue, label = cell.cue, cell.label
    return [cue, f"a {label} on {cue}", f"a {label} on the {cue}", f"a {label} with {cue}", f"a {cue} {label}"]


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each method, mode and kind of cue: success with its lower Wilson bound, and median costs."""
    costs = "rows fwd  rows grad  CPU s  naming  words drawn"
    lines = [f"method          mode    kind      cells  success  at least  {costs}  cue first"]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        for kind in (row["kind"], "~ all"):
            groups.setdefault((row["method"], row["mode"], kind), []).append(row)
    for (name, mode, kind), group in sorted(groups.items()):
        hits, n = sum(row["success"] for row in group), len(group)
        middle = {key: median(row[key] for row in group) for key in _COSTS}
        lines.append(
            f"{name:15} {mode:7} {kind.strip('~ '):8} {n:6d}  {hits / n:7.2f}  {wilson_interval(hits, n)[0]:8.2f}"
            f"  {middle['rows forward']:8.0f}  {middle['rows with gradient']:9.0f}  {middle['CPU seconds']:5.1f}"
            f"  {middle['naming CPU seconds']:6.1f}  {middle['words drawn']:11.0f}"
            f"  {sum(says_cue_first(row['words'], row['cue']) for row in group) / n:9.2f}"
        )
    return "\n".join(lines) + "\n"


def asked_cells(arguments: argparse.Namespace) -> list[Cell]:
    """Return the cells that a command line asks for."""
    if arguments.suite:
        cells = [cell for kind in arguments.suite for cell in suite_cells(kind)]
    else:
        cells = subset(arguments.subset) if arguments.subset and not arguments.classifiers else all_cells()
    return [cell for cell in cells if not arguments.classifiers or cell.classifier in arguments.classifiers]


def main() -> None:
    """Measure what is asked for and not measured yet, print a line for each cell, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--subset", type=int, default=4, help="so many cells of each mode; 0 for all")
    parser.add_argument("--classifiers", nargs="*", help="only the cells of these classifiers, all of them")
    parser.add_argument(
        "--suite", nargs="*", choices=[*SUITE_KINDS], help="cells of the truth suite of these kinds instead"
    )
    parser.add_argument("--modes", nargs="*", choices=MODES, default=[CLOSED, OPEN])
    parser.add_argument("--methods", nargs="*", choices=[*RIVALS], default=[OURS])
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to so many less one")
    parser.add_argument("--distractors", type=int, default=5000)
    parser.add_argument("--budget", help='what a search may spend, as "2000 rows"; rivals need it')
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="only print the table of what was measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = kept_rows(arguments.out)
    done = {tuple(row[key] for key in ("method", "mode", "classifier", "label", "seed", "budget")) for row in rows}
    cells = asked_cells(arguments)
    asked = [(mode, cell, seed) for mode in arguments.modes for cell in cells for seed in range(arguments.seeds)]
    classifiers: dict[str, dx.Classifier] = {}
    for mode, cell, seed in [] if arguments.table else asked:
        names = [
            name
            for name in arguments.methods
            if (name, mode, cell.classifier, cell.label, seed, arguments.budget) not in done
        ]
        if names and cell.classifier not in classifiers:
            classifiers[cell.classifier] = classifier_of(cell.classifier)
        for name in names:
            pipeline = enlarged(arguments.distractors, seed) if mode == OPEN else "tinyworld"
            gradient = RIVALS[name].gradient
            with dx.Explainer(pipeline, classifiers[cell.classifier], seed=seed, gradient=gradient) as explainer:
                row = measure(explainer, cell, mode, name, arguments.budget)
            rows.append(row)
            append_rows(arguments.out, [row])
            sys.stdout.write(
                f"{name} {mode} {' '.join(cell)} seed {seed}: {row['rate']:.2f} {row['by']} {' '.join(row['words'])}"
                f" {row['rows forward']} + {row['rows with gradient']} rows, {row['CPU seconds']:.1f} s"
                f" with {row['naming CPU seconds']:.1f} of naming\n"
            )
            sys.stdout.flush()
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
