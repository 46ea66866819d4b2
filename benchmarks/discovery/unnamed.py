"""Cues that no word names, and cues that cannot be drawn: ``python -m benchmarks.discovery.unnamed --work FOLDER``.

Classifiers of the truth suite are audited with what explanations found for their planted classes. A class with a
pattern that no word names is to be "a feature without a name", one with a mark that the generator has never seen "not
elicited", and one whose cue a word names neither of them. A class counts where the classifier has learnt its cue, by
its measured truth. Explanations and pictures are kept in the folder, so that a run goes on where it was interrupted.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.discovery.figures import Row
from benchmarks.truth.cells import Planned, classifier_of, whole_list
from benchmarks.truth.rows import learnt
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.storage import read_json, write_json_atomic

RESULT = Path(__file__).parent.parent / "results" / "discovery_unnamed.json"
DEFAULT = ("nameless-00", "nameless-01", "single-0.9-00")
_WANTED = {"nameless": {"unnamed"}, "mark": {"not elicited"}}
"""Kind of a cell to the verdicts that are right; for a cue that a word names everything else than these."""
_OTHERS = {"unnamed", "not elicited"}


def measure(planned: Planned, work: Path, seed: int) -> list[Row]:
    """Audit a classifier; return a row for every planted class."""
    began, classifier, rows = time.process_time(), classifier_of(planned), []
    with dx.Explainer("tinyworld", classifier, seed=seed) as explainer:
        found = {}
        for cell in planned.cells:
            kept = work / "explanations" / f"{planned.name}-{cell.label}-{seed}"
            if not kept.exists():
                explainer.explain(cell.label).save(kept)
            found[cell.label] = dx.Explanation.load(kept)
        audit = explainer.audit(pool=work / "pool", explain=found)
    truth: Any = classifier.truth
    for cell in planned.cells:
        verdict, said = audit.verdicts[cell.label], {one.target: one for one in audit.found}[cell.label]
        wanted, rate = _WANTED.get(cell.kind), found[cell.label].activation["held_out"].rate
        right = verdict.kind in wanted if wanted else verdict.kind not in _OTHERS
        cue = [":".join(value) for value in cell.cue.values]
        rows.append({"classifier": planned.name, "seed": seed, "label": cell.label, "kind": cell.kind, "cue": cue})
        rows[-1] |= {"learnt": learnt(truth[cell.label], cell), "explanation answered": rate, "verdict": verdict.kind}
        rows[-1] |= {"right": right, "sentence": verdict.sentence, "unexplained low": said.unexplained_low}
        print(rows[-1], flush=True)
    rows[0]["CPU seconds"] = time.process_time() - began
    return rows


def shares_of(rows: list[Row]) -> Row:
    """Return by kind how many classes that have learnt their cue have a right verdict, with Wilson's interval."""
    shares: Row = {}
    for kind in dict.fromkeys(row["kind"] for row in rows if row["learnt"]):
        hits = [row["right"] for row in rows if row["learnt"] and row["kind"] == kind]
        low, high = wilson_interval(sum(hits), len(hits))
        shares[kind] = {"right": sum(hits), "of": len(hits), "low": low, "high": high}
    return shares


def main() -> None:
    """Measure what is asked for and not in the results yet; print shares by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of pictures and explanations")
    names = [planned.name for planned in whole_list() if any(cell.kind in _WANTED for cell in planned.cells)]
    parser.add_argument("--classifiers", nargs="*", choices=names, default=[*DEFAULT], help="of the truth suite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    before: Any = read_json(given.out) if given.out.exists() else {"rows": []}
    rows: list[Row] = before["rows"]
    done = {(row["classifier"], row["seed"]) for row in rows}
    for planned in whole_list():
        if planned.name in given.classifiers and (planned.name, given.seed) not in done:
            rows += measure(planned, given.work, given.seed)
            result = {"shares": shares_of(rows), "rows": rows, "versions": versions(), "device": device_record()}
            write_json_atomic(given.out, result)
    print(read_json(given.out)["shares"] if given.out.exists() else "nothing measured")


if __name__ == "__main__":
    main()
