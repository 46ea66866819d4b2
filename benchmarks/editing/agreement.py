"""Do audits and edits measure the same effects: ``python -m benchmarks.editing.agreement --pool FOLDER --out FILE``.

Shipped classifiers are audited in drawn pictures of each class's own object, and scenes with that object, rendered
with unseen seeds, are edited with the same concepts. Both are contrasts over the same values with the own object
present, brought together by the package's own ``results.agreement``. The edits of a scene serve all classifiers. A
cell is a classifier, a class and a concept; the interval of the correlation is a bootstrap over classifiers and
classes, whose cells belong together. The cells with the largest differences are shown, with the effect of the scenes
rendered anew beside them, which says which of the two errs on these scenes.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch

import diffexplain_fast as dx
from benchmarks.editing.figures import share
from benchmarks.editing.leaves import lab_of, values_of
from benchmarks.editing.scenes import TrueScene, picture, true_scenes
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.results.agreement import AgreementRow, agreement_of, levels_of
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.effects import Row
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld.words import BACKGROUNDS, COLOURS, COMPANIONS, NOTHING, TEXTURES

FIRST_SEED = 7_500_000
CLASSES = ("fish", "house", "tree", "boat")
"""Classes of which some classifier has a planted shortcut."""
_CONCEPTS = {
    "colour": [*COLOURS],
    "texture": [*TEXTURES],
    "background": [*BACKGROUNDS],
    "companion": [*COMPANIONS, NOTHING],
}
_DRAWS, _SHOWN = 2000, 12


class Edited(NamedTuple):
    """The edits of one scene, on all classifiers and classes.

    Attributes:
        scene: the picture.
        concepts: names of the edits.
        verified: of each.
        found: by classifier, effects [edits, classes].
        truth: by classifier, effects of the scene rendered anew [edits, classes].
    """

    scene: TrueScene
    concepts: list[str]
    verified: list[bool]
    found: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]


class Cell(NamedTuple):
    """A row of an agreement, with its classifier and class, and the same contrast of scenes rendered anew."""

    classifier: str
    label: str
    row: AgreementRow
    truth: float


def scenes_of(label: str, count: int, words: list[str], first: int) -> list[TrueScene]:
    """Return so many scenes that show an object.

    Args:
        label: the object.
        count: of the scenes.
        words: that the pipeline knows.
        first: seed of the first scene; those with other objects are passed over.
    """
    found: list[TrueScene] = []
    while len(found) < count:
        (scene,) = true_scenes(1, words, first)
        first = scene.seed + 1
        found += [scene] if scene.attributes["object"] == label else []
    return found


def edited(pipeline: Pipeline, classifiers: dict[str, Classifier], scene: TrueScene, taxonomy: Taxonomy) -> Edited:
    """Edit a scene with every concept that it does not show, and ask all classifiers before and after."""
    lab, drawn = lab_of(pipeline, next(iter(classifiers.values())), scene.attributes["object"], scene, taxonomy)
    jobs = [job for concept in taxonomy.concepts if (job := lab.jobs.of(drawn, (concept,))) is not None]
    trials = lab.run(drawn, jobs)
    after = torch.stack([trial.pixels for trial in trials])
    before = lab.drawing.baseline(drawn, torch.stack([trial.mask for trial in trials]))
    names = [trial.job.names[0] for trial in trials]
    true = torch.stack([picture(scene.seed, scene.attributes | dict([name.split(":")])) for name in names])
    found, truth = {}, {}
    for name, one in classifiers.items():
        found[name] = values_of(one, after) - values_of(one, before)
        truth[name] = values_of(one, true) - values_of(one, scene.pixels[None])
    return Edited(scene, names, [trial.verified for trial in trials], found, truth)


def cells_of(
    some: Sequence[Edited], classifier: Classifier, name: str, label: str, taxonomy: Taxonomy, audit: Audit
) -> list[Cell]:
    """Return the agreement of an audit with the edits of scenes, and with the scenes rendered anew."""
    told, place = [row for row in audit.rows if row.target == label], classifier.label_index(label)

    def rows(kind: str) -> list[Row]:
        return [
            Row(i, concept, effect, effect, effect, float(good or kind == "truth"), 1, effect, None, None, "")
            for i, one in enumerate(some)
            for concept, good, effect in zip(
                one.concepts, one.verified, getattr(one, kind)[name][:, place].tolist(), strict=True
            )
        ]

    shown = [[f"{group}:{value}" for group, value in one.scene.attributes.items()] for one in some]
    levels = levels_of(audit.rows, audit.settings)
    found, true = (
        agreement_of(rows(kind), range(len(some)), shown, taxonomy.concepts, told, levels)
        for kind in ("found", "truth")
    )
    truth = {row.concept: row.edited for row in true.rows}
    return [Cell(name, label, row, truth[row.concept]) for row in found.rows]


def correlation(cells: Sequence[Cell], one: str = "audited", other: str = "edited") -> float:
    """Return Pearson's r of two of a cell's effects: "audited", "edited" or "truth"."""

    def values(name: str) -> list[float]:
        return [cell.truth if name == "truth" else getattr(cell.row, name) for cell in cells]

    return float(np.corrcoef(values(one), values(other))[0, 1])


def figures(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the correlation with its interval, how often intervals say that the two differ, and where the most."""
    sets: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        sets.setdefault((cell.classifier, cell.label), []).append(cell)
    groups, rng, draws = [*sets.values()], np.random.default_rng(0), []
    for _ in range(_DRAWS):
        drawn = rng.integers(0, len(groups), len(groups))
        draws.append(correlation([cell for i in drawn for cell in groups[i]]))
    audited, found = (np.array([getattr(cell.row, name) for cell in cells]) for name in ("audited", "edited"))
    apart = sorted(cells, key=lambda cell: -abs(cell.row.edited - cell.row.audited))
    differ = [cell for cell in apart if cell.row.differ]
    near = [abs(cell.row.edited - cell.truth) < abs(cell.row.audited - cell.truth) for cell in differ]
    return {
        "cells": len(cells),
        "sets": len(groups),
        "r": correlation(cells),
        "interval": np.quantile(draws, [0.025, 0.975]).tolist(),
        "slope of edits on audits": float((audited * found).sum() / (audited**2).sum()),
        "mean difference, absolute": float(abs(audited - found).mean()),
        "r of edits with scenes rendered anew": correlation(cells, "edited", "truth"),
        "r of audits with scenes rendered anew": correlation(cells, "audited", "truth"),
        "r by set, least": min(correlation(some) for some in groups),
        "r by set, mean": fmean(correlation(some) for some in groups),
        "differ": share([cell.row.differ for cell in cells]),
        "of those, edits are nearer to the scenes rendered anew": share(near) if near else None,
        "largest differences": [shown(cell) for cell in apart[:_SHOWN]],
    }


def shown(cell: Cell) -> dict[str, Any]:
    """Return a cell as values of JSON."""
    return {"classifier": cell.classifier, "label": cell.label, "rendered anew": cell.truth} | asdict(cell.row)


def main() -> None:
    """Audit and edit, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing.agreement", description=__doc__)
    parser.add_argument("--scenes", type=int, default=5, help="of each class")
    parser.add_argument("--pictures", type=int, default=96, help="of the audit, without those of own objects")
    parser.add_argument("--own", type=int, default=96, help="pictures of the audit of each class's own object")
    parser.add_argument("--pool", type=Path, required=True, help="folder of the audit's pictures")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file, which is replaced")
    arguments = parser.parse_args()
    pipeline = load_pipeline("tinyworld")
    classifiers = {name: Classifier.from_pretrained(f"tinyworld/{name}") for name in sorted(SHIPPED)}
    taxonomy, some = Taxonomy(_CONCEPTS), {}
    for label in CLASSES:
        scenes = scenes_of(label, arguments.scenes, pipeline.words(), FIRST_SEED)
        some[label] = [edited(pipeline, classifiers, scene, taxonomy) for scene in scenes]
        sys.stdout.write(f"{label}: {len(scenes)} scenes edited\n")
        sys.stdout.flush()
    cells: list[Cell] = []
    for name, classifier in classifiers.items():
        with dx.Explainer("tinyworld", f"tinyworld/{name}", seed=0) as explainer:
            audit = explainer.audit(
                [*CLASSES],
                _CONCEPTS,
                arguments.pictures,
                own_pictures=arguments.own,
                pool=arguments.pool,
                progress=False,
            )
        for label in CLASSES:
            cells += cells_of(some[label], classifier, name, label, taxonomy, audit)
        sys.stdout.write(f"{name}: r {correlation([c for c in cells if c.classifier == name]):.3f}\n")
        sys.stdout.flush()
    options = f"--scenes {arguments.scenes} --pictures {arguments.pictures} --own {arguments.own}"
    record = {"command": f"python -m benchmarks.editing.agreement {options} --pool FOLDER"}
    record |= {"all": figures(cells), "versions": versions(), "device": device_record()}
    record |= {name: figures([cell for cell in cells if cell.classifier == name]) for name in classifiers}
    write_json_atomic(arguments.out, record)
    sys.stdout.write(f"r {record['all']['r']:.3f} {record['all']['interval']}\n")


if __name__ == "__main__":
    main()
