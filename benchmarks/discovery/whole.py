"""Time of a whole audit, explanations and page included: ``python -m benchmarks.discovery.whole``.

What ``diffexplain-fast audit tinyworld/background --explain`` does, from an empty pool: load the models, search prompts
for all eight classes, draw the pictures, and write results and page. Seconds by the clock are judged, on two cores with
nothing else to do; the row has the load before, so that one of a busy machine shows as such, and the CPU seconds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import diffexplain_fast as dx
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.bench.rows import commit
from diffexplain_fast.storage import write_json_atomic

RESULT = Path(__file__).parent.parent / "results" / "discovery_whole.json"
MOST = 360.0
"""Seconds that a whole audit of eight classes may take on two idle cores."""


@contextmanager
def timed(parts: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    """Write how long a part takes into ``parts``: seconds, and CPU seconds of all threads.

    Args:
        parts: of the whole.
        name: of the part.
    """
    began, busy = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        parts[name] = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy}


def measured(
    folder: Path, classifier: str, pictures: int, classes: list[str] | None = None, explain: bool = True
) -> dict[str, object]:
    """Return the parts of an audit, their sum, and what was found.

    Args:
        folder: new; for the pool and the results.
        classifier: name of a classifier of the tiny world.
        pictures: of the pool at most.
        classes: None for all.
        explain: whether prompts are searched first.
    """
    parts: dict[str, dict[str, float]] = {}
    with timed(parts, "models"):
        explainer = dx.Explainer("tinyworld", classifier, seed=0)
    with explainer:
        with timed(parts, "explanations and trial"):
            audit = explainer.audit(classes or "all", pictures=pictures, pool=folder / "pool", explain=explain)
        with timed(parts, "results and page"):
            audit.save(folder / "audit")
            page = audit.report(folder / "report.html")
    whole = {key: sum(part[key] for part in parts.values()) for key in ("seconds", "cpu_seconds")}
    found = {"classes": len(audit.verdicts), "searched": len(audit.found), "findings": len(audit.findings)}
    drawn = {"pictures": audit.settings["pictures_drawn"], "page_bytes": page.stat().st_size}
    return {"classifier": classifier, "threads": torch.get_num_threads(), **found, **drawn, "parts": parts, **whole}


def main() -> None:
    """Run the benchmark; exit code 1 where its seconds exceed the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classifier", default="tinyworld/background")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), given.classifier, given.pictures)
    record = {**found, "load_before": load, "load_after": os.getloadavg(), "commit": commit()}
    write_json_atomic(given.out, record | {"versions": versions(), "device": device_record()})
    print(f"{found['classes']} classes: {found['seconds']:.0f} s of at most {MOST:g}", end=", ")
    print(f"{found['cpu_seconds']:.0f} CPU seconds; load before: {load[0]:.1f}")
    for name, part in found["parts"].items():  # type: ignore[attr-defined]
        print(f"  {name}: {part['seconds']:.0f} s, {part['cpu_seconds']:.0f} CPU seconds")
    raise SystemExit(found["seconds"] > MOST)  # type: ignore[operator]


if __name__ == "__main__":
    main()
