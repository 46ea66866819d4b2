"""The audit of a classifier that nobody here made: ``python -m benchmarks.discovery.imagenet``.

The classifier, the photographs and the watermark are those of ``examples/audit_imagenet.py``. As a null, three unmarked
crops of every photograph are compared with three other unmarked crops of the same photographs.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.discovery.figures import Row, share
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.readout import readout_of
from diffexplain_fast.stats.clustered import cluster_means
from diffexplain_fast.stats.decisions import findings, one_sided_tests
from diffexplain_fast.storage import write_json_atomic
from examples.audit_imagenet import CROPS, audit, classifier, crops

RESULT = Path(__file__).parent.parent / "results" / "discovery_imagenet.json"
_BATCH = 20


def unmarked() -> np.ndarray:
    """Return which classes are flagged where unmarked crops take the place of marked ones, bool [classes]."""
    pixels, names = crops()
    readout = readout_of(classifier(), "all", pixels[:1])
    values = np.concatenate([readout(pixels[i : i + _BATCH])[0] for i in range(0, len(pixels), _BATCH)])
    pairs = values.reshape(-1, CROPS, values.shape[1])
    change = (pairs[:, : CROPS // 2] - pairs[:, CROPS // 2 :]).reshape(-1, values.shape[1])
    effects = cluster_means([change], np.repeat(np.arange(len(set(names))), CROPS // 2))
    return np.asarray(findings(one_sided_tests(effects, 0.5), 0.05)[0] != 0)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    began = time.process_time()
    found = audit()
    cost = time.process_time() - began
    marked = sorted((row for row in found.rows if row.concept == "intervention:watermark"), key=lambda row: -row.effect)
    result: Row = {
        "largest": [
            {"target": row.target, "effect": row.effect, "low": row.low, "high": row.high} for row in marked[:5]
        ],
        "classes": len(marked),
        "rank of carton": [row.target for row in marked].index("carton") + 1,
        "sentence": found.verdicts["carton"].sentence,
        "placebos flagged": found.settings["placebos_flagged"],
        "unmarked crops flagged": share(unmarked()),
        "pictures": marked[0].pictures,
        "CPU seconds": cost,
    }
    write_json_atomic(given.out, result | {"versions": versions(), "device": device_record()})
    print(result)


if __name__ == "__main__":
    main()
