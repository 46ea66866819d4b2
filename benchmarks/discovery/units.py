"""Hidden units against what was measured on rendered scenes: ``python -m benchmarks.discovery.units --pool FOLDER``.

A unit responds to a concept by the difference of its mean activation to the median over the concept's group, in
standard deviations of the unit over the pool. A unit responds at all where the largest measured response is above one
such deviation. "Top concept right" counts a unit whose reported concept has at least 90 % of the largest response.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import diffexplain_fast as dx
from benchmarks.discovery.figures import Row, share
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.recipe.responses import unit_layers
from diffexplain_fast.stats.cells import concept_effects
from diffexplain_fast.storage import write_json_atomic

RESULT = Path(__file__).parent.parent / "results" / "discovery_units.json"
RESPONDS = 1.0


def measured(name: str, layer: str, concepts: tuple[str, ...]) -> np.ndarray:
    """Return the measured responses against the median of their group, float [concepts, units]; NaN where none is."""
    known = tinyworld.units(name)[layer]
    none = np.full(len(next(iter(known.values()))), np.nan)
    found = np.stack([known[concept].double().numpy() if concept in known else none for concept in concepts])
    groups = np.array([concept.partition(":")[0] for concept in concepts])
    for group in set(groups):
        found[groups == group] -= np.nanmedian(found[groups == group], 0)
    return found


def of_layer(audit: dx.Audit, layer: str, name: str) -> tuple[Row, list[bool], list[tuple[float, float]]]:
    """Return the figures of one layer; whether each top concept is right; reported and measured effects."""
    hidden = audit._hidden
    values, asked = hidden._layers.activations(layer), hidden._plan.asked
    concepts = tuple(dict.fromkeys(row.concept for row in audit.rows))
    spread = values.std(0)
    true = measured(name, layer, concepts) / spread
    estimated = concept_effects(asked, values / spread)[1].estimate[asked.places]
    responds = np.nanmax(np.abs(true), 0) > RESPONDS
    rows = {row.unit: row for row in audit.units(layer, units=list(range(values.shape[1])))}
    right, found, covered, pairs = [], [], [], []
    for unit in np.flatnonzero(responds).tolist():
        row, own = rows[unit], np.abs(true[:, unit])
        chosen = own[concepts.index(row.concept)]
        right.append(chosen >= 0.9 * np.nanmax(own))
        found.append(row.finding)
        pairs.append((row.effect, true[concepts.index(row.concept), unit]))
        covered.append(row.low <= true[concepts.index(row.concept), unit] <= row.high)
    keep = responds[None] & np.isfinite(true)
    each = [spearmanr(estimated[keep[:, u], u], true[keep[:, u], u]).statistic for u in np.flatnonzero(responds)]
    figures = {
        "units": len(responds),
        "units that respond": int(responds.sum()),
        "top concept right": share(np.array(right)),
        "found": share(np.array(found)),
        "top effect covered": share(np.array(covered)),
        "Spearman of the reported effect over units": float(spearmanr(*zip(*pairs, strict=True)).statistic),
        "Spearman within a unit, mean": float(np.mean(each)),
        "Spearman over all cells": float(spearmanr(estimated[keep], true[keep]).statistic),
        "Pearson over all cells": float(np.corrcoef(estimated[keep], true[keep])[0, 1]),
        "units that do not respond, found": share(np.array([rows[u].finding for u in np.flatnonzero(~responds)])),
    }
    return figures, right, pairs


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="folder of the pictures, new or of an earlier run")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    result: Row = {"pictures": given.pictures, "classifiers": {}}
    right: list[bool] = []
    pairs: list[tuple[float, float]] = []
    for name in tinyworld.classifier_names():
        classifier = dx.Classifier.from_pretrained(f"tinyworld/{name}")
        with dx.Explainer("tinyworld", classifier) as explainer:
            audit = explainer.audit(pictures=given.pictures, pool=given.pool)
            began = time.process_time()
            layers: Row = {}
            for layer in unit_layers(classifier.model):
                layers[layer], some, more = of_layer(audit, layer, name)
                right, pairs = right + some, pairs + more
        result["classifiers"][name] = layers | {"CPU seconds": time.process_time() - began}
        print(name, result["classifiers"][name], flush=True)
    result["all"] = {
        "top concept right": share(np.array(right)),
        "Spearman of the reported effect over units": float(spearmanr(*zip(*pairs, strict=True)).statistic),
        "Pearson of the reported effect over units": float(np.corrcoef(np.array(pairs).T)[0, 1]),
    }
    print(result["all"])
    write_json_atomic(given.out, result | {"versions": versions(), "device": device_record()})


if __name__ == "__main__":
    main()
