"""How much of what a classifier relies on a method finds: ``python -m benchmarks.truth --work FOLDER``.

Every classifier of a fixed list has a truth that was measured by rendering scenes; see ``cells``. Every method says of
its classes which concepts they rely on; see ``methods``. All pictures come from one pool. Rows are appended to
``rows.jsonl`` in the work folder as soon as they are known, and a row that is there is not computed again. At the end
the figures of all methods are printed, and appended to the results as one row. Pictures and explanations are shared;
the first method that asks for them pays.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

from benchmarks.truth.cells import Planned, ci_list, whole_list
from benchmarks.truth.methods import METHODS
from benchmarks.truth.rows import Row, measure, missing, read_rows, world
from benchmarks.truth.scoring import figures
from benchmarks.truth.table import table
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.bench.rows import append_rows, commit

RESULT = Path(__file__).parents[1] / "results" / "truth.jsonl"
SUBSETS = {"ci": ci_list, "all": whole_list}


def run(planned: Sequence[Planned], methods: Sequence[str], work: Path, jobs: int) -> list[str]:
    """Measure what is missing, a classifier in one process; return what failed.

    Args:
        planned: the classifiers.
        methods: names of methods.
        work: folder of rows, pool and explanations.
        jobs: processes, each with one thread.
    """
    path, failed = work / "rows.jsonl", []
    work.mkdir(parents=True, exist_ok=True)
    rows = read_rows(path)
    left = [(one, names) for one in planned if (names := missing(one, methods, rows))]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(measure, one, names, work, path): one.name for one, names in left}
        for done, future in enumerate(as_completed(running), start=1):
            error = future.exception()
            said = [f"{running[future]}: {error}"] if error is not None else future.result()
            failed += said if error is not None else []
            sys.stdout.write("\n".join([f"{done}/{len(left)}", *said]) + "\n")
            sys.stdout.flush()
    return failed


def cpu_minutes(planned: Sequence[Planned], rows: Sequence[Row]) -> float:
    """Return what the rows of some classifiers took, in minutes of one core; the pool and training are in them."""
    names = {one.name for one in planned}
    return round(sum(row["CPU seconds"] for row in rows if row["classifier"] in names) / 60, 2)


def command_of(given: argparse.Namespace) -> str:
    """Return the command of a run, without its folders."""
    only = ["--only", *given.only] if given.only is not None else []
    methods = ["--methods", *given.methods] if given.methods != [*METHODS] else []
    words = ["python -m benchmarks.truth --subset", given.subset, *only, *methods, "--jobs", str(given.jobs)]
    return " ".join(words)


def main() -> int:
    """Run the suite; 1 if a classifier failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of pool, explanations and rows, new or used")
    parser.add_argument("--subset", choices=SUBSETS, default="ci", help="ci: the shipped classifiers and two made ones")
    parser.add_argument("--only", nargs="*", help="names of classifiers of the subset")
    parser.add_argument("--methods", nargs="*", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the figures of what was measured")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    planned = [one for one in SUBSETS[given.subset]() if given.only is None or one.name in given.only]
    failed = [] if given.table else run(planned, given.methods, given.work, given.jobs)
    rows = read_rows(given.work / "rows.jsonl")
    found = figures(planned, rows)
    sys.stdout.write(table(found) + f"{cpu_minutes(planned, rows)} minutes of one core\n")
    if not given.table:
        row: Row = {
            "date": datetime.now().astimezone().date().isoformat(),
            "commit": commit(),
            "command": command_of(given),
            "CPU minutes": cpu_minutes(planned, rows),
            "world": world(),
            "classifiers": [one.name for one in planned],
            "methods": found,
            "versions": versions(),
            "device": device_record(),
        }
        append_rows(given.out, [row])
    sys.stdout.write("".join(f"failed: {line}\n" for line in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
