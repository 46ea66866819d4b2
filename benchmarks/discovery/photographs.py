"""Own pictures against truth: ``python -m benchmarks.discovery.photographs --pool FOLDER``.

Rendered scenes stand for the user's pictures. What is pasted into them is compared with the effects that were measured
on other rendered pictures, and with those of the generator; the classifier "hidden" answers four classes to cues that
no concept names, so these four have to be "not explained by any concept", and no other class may be.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import diffexplain_fast as dx
from benchmarks.discovery.figures import Row, against_truth, asked_for, roles, share
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.known_truth import audit_truth
from diffexplain_fast.methods.photographs.rows import as_in
from diffexplain_fast.recipe.data import as_pixels, render_given
from diffexplain_fast.results.photographs import Photographs
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.tinyworld.words import ATTRIBUTES, OBJECTS, draw_attributes

RESULT = Path(__file__).parent.parent / "results" / "discovery_photographs.json"
HIDDEN = {
    "star": {"size": "small"},
    "house": {"place": "left"},
    "car": {"mark": "watermark"},
    "mushroom": {"pattern": "diagonal"},
}
"""Cues that the concepts of the shipped world do not name."""
Cell = tuple[float, float, float, float, bool, bool]
"""Effect, lower and upper end, truth, whether it is a finding, whether truth calls it spurious."""
_SEED, _CUED, _DELTA = 8_000_000, 0.2, 0.5


def pictures(count: int, cues: bool) -> tuple[torch.Tensor, list[str]]:
    """Return rendered scenes as pixels, and the name of the object in each; with cues, a fifth shows each of them."""
    scenes = []
    for i in range(count):
        rng = np.random.default_rng([_SEED + i, 0])
        scene = draw_attributes(rng) | {"style": "scene"}
        scene["object"] = OBJECTS[i % len(OBJECTS)] if scene["object"] == "nothing" else scene["object"]
        for cue in HIDDEN.values() if cues else ():
            scene |= cue if rng.random() < _CUED else {}
        scenes.append(scene)
    rendered = render_given(scenes, [_SEED + i for i in range(count)])
    return as_pixels(rendered.pixels, torch.device("cpu")), [scene["object"] for scene in scenes]


def judge(name: str) -> object:
    """Return the eye of the benchmark: "auto" for the shipped one, or the probe, which stands for a good captioner."""
    if name == "auto":
        return name
    probe = tinyworld.load_probe()
    concepts = [(group, value) for group, values in _GROUPS.items() for value in values]

    def look(pixels: torch.Tensor) -> np.ndarray:
        seen = tinyworld.name_attributes(probe, pixels)
        return np.array([[float(one[group] == value) for group, value in concepts] for one in seen])

    return look


_GROUPS = {name: list(values) for name, values in ATTRIBUTES.items()}
_GROUPS["companion"].append("nothing")


def pasted(cells: list[Cell], drawn: list[tuple[float, float, bool]]) -> Row:
    """Return the figures of pasting against truth and against the generator."""
    effect, low, high, true, finding, spurious = (np.array(column) for column in zip(*cells, strict=True))
    generator, own, overlap = (np.array(column) for column in zip(*drawn, strict=True))
    return against_truth(effect, (low, high), true, finding, spurious, _DELTA) | {
        "slope on truth": float(np.polyfit(true, effect, 1)[0]),
        "with the generator: r": float(np.corrcoef(generator, own)[0, 1]),
        "with the generator: slope": float(np.polyfit(generator, own, 1)[0]),
        "with the generator: overlap": share(overlap),
    }


def summary(own: Photographs) -> Row:
    """Return what own pictures say of one classifier, in short."""
    worst = own.worst_group
    return {
        "agreement": dict(own.agreement),
        "AUC, least, explained": {row.target: [row.auc, row.least, row.explained] for row in own.explained},
        "worst group": None if worst is None else dict(worst),
        "groups": len(set(own.groups)),
        "notes": own.notes,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="folder of the pictures, new or of an earlier run")
    parser.add_argument("--pictures", type=int, default=192, help="of the generator")
    parser.add_argument("--own", type=int, default=160, help="pictures of the user")
    parser.add_argument("--eye", choices=("auto", "probe"), default="auto")
    parser.add_argument("--names", nargs="*", default=[*tinyworld.classifier_names(), "hidden"])
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    cells: list[Cell] = []
    drawn: list[tuple[float, float, bool]] = []
    result: Row = {"pictures": given.pictures, "own": given.own, "eye": given.eye, "classifiers": {}}
    for name in given.names:
        hidden = name == "hidden"
        classifier = tinyworld.make_classifier(HIDDEN) if hidden else dx.Classifier.from_pretrained(f"tinyworld/{name}")
        pixels, labels = pictures(given.own + 80 * hidden, cues=hidden)
        options = {"images": pixels, "labels": labels, "eye": judge(given.eye), "pool": given.pool}
        with dx.Explainer("tinyworld", classifier) as explainer:
            began = time.process_time()
            audit = explainer.audit(concepts=_GROUPS, pictures=given.pictures, **options)
            cost = time.process_time() - began
        found, truth = audit.photographs, audit_truth(classifier.truth, asked_for(audit))
        share_of = {label: labels.count(label) / len(labels) for label in labels}
        other, role = {(row.target, row.concept): as_in(row, share_of) for row in audit.rows}, roles(classifier.truth)
        for row in found.rows if not hidden else ():
            key = row.target, row.concept
            if key in truth and row.declared_by is None:
                one, spurious = other[key], role[key] == "spurious"
                cells.append((row.effect, row.low, row.high, truth[key], row.finding, spurious))
                drawn.append((one.effect, row.effect, one.low <= row.high and row.low <= one.high))
        result["classifiers"][name] = summary(found) | {"CPU seconds": cost}
        print(name, result["classifiers"][name], flush=True)
    if cells:
        result["all"] = pasted(cells, drawn)
    write_json_atomic(given.out, result | {"versions": versions(), "device": device_record()})
    print(result.get("all"))


if __name__ == "__main__":
    main()
