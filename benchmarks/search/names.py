"""How often the name of a find is right: ``python -m benchmarks.search.names``.

A class is searched for without any word, as ``benchmarks.search --modes closed`` does, and what was found is named as
``explain`` names it. Each cell says whether the search succeeded (see ``benchmarks.search``), whether the words of the
name say all values of the cue that the classifier has learnt (``name_cells.unsaid``), and which of them are not true
(``name_cells.false_words``). A name is right where it says all and nothing else; a class that answers to what no word
says is to have no name. Names are counted where the search succeeded. Rows are appended to a file of JSON lines; rows
that are there are not measured again.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.search.__main__ import SLACK, SUCCESS, held_out
from benchmarks.search.name_cells import (
    FIRST,
    HALVES,
    NAMELESS,
    SECOND,
    NameCell,
    captions,
    false_words,
    name_cells,
    planted,
    unsaid,
)
from benchmarks.search.rivals import problem_of
from diffexplain_fast.evidence.identity import NEWER, answers_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.measuring.bench.rows import append_rows, kept_rows
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.running import name_result, optimised
from diffexplain_fast.methods.diffexplainer.settings import configuration_of, found_by
from diffexplain_fast.methods.diffexplainer.state import State
from diffexplain_fast.methods.diffexplainer.state_files import STATE_FILES
from diffexplain_fast.runs.checkpoint import Checkpoints
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.storage import read_json, write_json_atomic

RESULT = Path(__file__).parents[1] / "results" / "names.jsonl"
_OPTIONS = Options(start="gradient")
_COSTS = ("search rows", "search CPU seconds", "naming rows", "naming CPU seconds")


def measure(explainer: dx.Explainer, cell: NameCell, searches: Path | None) -> dict[str, Any]:
    """Search and name one cell; return its row."""
    problem = problem_of(explainer, cell.label)
    state, seconds = _searched(problem, None if searches is None else searches / f"{cell.classifier}-{cell.label}")
    rows, began = problem.cost.rows, time.process_time()
    name_result(problem, _OPTIONS, state)
    naming_rows, naming_seconds = problem.cost.rows - rows, time.process_time() - began
    named = state.ranking[state.best_attempt].get("named")
    rate, best = held_out(problem, problem.encode_soft(state.best)), None
    if rate < SUCCESS:
        best = max(held_out(problem, problem.pipeline.encode_text([text])) for text in captions(cell))
    words, truth = named["words"] if named else [], explainer.classifier.truth or {}
    missed, wrong = (judge(cell, words, truth[cell.label]) for judge in (unsaid, false_words))
    return {
        **cell._asdict(),
        "half": cell.half,
        "seed": explainer.seed,
        "rate": rate,
        "best caption": best,
        "success": rate >= SUCCESS or (best is not None and rate >= best - SLACK),
        "by": found_by(state),
        "named": named,
        "unsaid": missed,
        "false": wrong,
        "right": not wrong and (cell.kind == NAMELESS or not missed),
        "search rows": rows,
        "search CPU seconds": seconds,
        "naming rows": naming_rows,
        "naming CPU seconds": naming_seconds,
    }


def _searched(problem: Problem, folder: Path | None) -> tuple[State, float]:
    """Return the end of a search and its CPU seconds, as a folder holds them or computed now."""
    began, checkpoints, timed = time.process_time(), None, None
    if folder is not None:
        configuration = configuration_of(problem, _OPTIONS)
        checkpoints = Checkpoints(folder, configuration, STATE_FILES, partial(answers_of, problem), NEWER)
        timed = folder / "seconds.json"
    state = optimised(problem, _OPTIONS, checkpoints, None)
    if timed is None:
        return state, time.process_time() - began
    if not timed.exists():
        write_json_atomic(timed, time.process_time() - began)
    seconds: Any = read_json(timed)
    return state, seconds


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each half and kind, and for all of a half: shares of the found cells, and median costs."""
    costs = "search rows  naming  CPU s  naming"
    lines = [f"half    kind      cells  found  all said  none false  right  at least  {costs}"]
    for half in dict.fromkeys(row["half"] for row in rows):
        of_half = [row for row in rows if row["half"] == half]
        for kind in [*dict.fromkeys(row["kind"] for row in of_half), "all"]:
            group = [row for row in of_half if kind in (row["kind"], "all")]
            found = [row for row in group if row["success"]]
            n, right = len(found), sum(row["right"] for row in found)
            said = "-" if kind == NAMELESS else sum(not row["unsaid"] for row in found if row["kind"] != NAMELESS)
            at_least = f"{wilson_interval(right, n)[0]:8.2f}" if n else f"{'-':>8}"
            middle = [median(row[key] for row in group) for key in _COSTS]
            lines.append(
                f"{half:7} {kind:8}  {len(group):5d}  {n:5d}  {said:>8}  {sum(not row['false'] for row in found):10d}"
                f"  {right:5d}  {at_least}  {middle[0]:11.0f}  {middle[2]:6.0f}  {middle[1]:5.1f}  {middle[3]:6.1f}"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for and not measured yet, print a line for each cell, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search.names", description=__doc__)
    parser.add_argument("--half", choices=(FIRST, SECOND), help="only the cells of one half")
    parser.add_argument("--classifiers", nargs="*", choices=[*HALVES], default=[*HALVES])
    parser.add_argument("--labels", nargs="*", help="only these classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--searches", type=Path, help="folder that keeps searches, so that only names are new")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="only print the table of what was measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = kept_rows(arguments.out)
    done = {tuple(row[key] for key in ("classifier", "label", "seed")) for row in rows}
    cells = [cell for cell in name_cells() if cell.classifier in arguments.classifiers]
    cells = [cell for cell in cells if arguments.half in (None, cell.half)]
    cells = [cell for cell in cells if arguments.labels is None or cell.label in arguments.labels]
    cells = [cell for cell in cells if (cell.classifier, cell.label, arguments.seed) not in done]
    for cell in [] if arguments.table else cells:
        with dx.Explainer("tinyworld", planted(cell.classifier), seed=arguments.seed) as explainer:
            row = measure(explainer, cell, arguments.searches)
        rows.append(row)
        append_rows(arguments.out, [row])
        cue, words = " ".join(value for _, value in cell.values), " ".join((row["named"] or {}).get("words", []))
        sys.stdout.write(
            f"{cell.classifier} {cell.label} = {cue}: {row['rate']:.2f} {row['by']}, named {words!r},"
            f" right {row['right']}, {row['search rows']} + {row['naming rows']} rows,"
            f" {row['search CPU seconds']:.1f} + {row['naming CPU seconds']:.1f} s\n"
        )
        sys.stdout.flush()
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
