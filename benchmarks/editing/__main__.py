"""Edits and effects on the tiny world against its truth: ``python -m benchmarks.editing``.

The probe judges, which is neither the verifier nor the classifier. Whether an attribute stays unchanged is asked only
where the probe names it right in the picture itself, because an edit keeps what it misreads too. One JSON line for each
scene, and one at the end for all of them; figures by kind of change are success, every other attribute unchanged, and
the change outside the region that truly changes. Beside them stand those of a perfect editor: the true picture through
the autoencoder, pasted back by the same masks, because the autoencoder loses what an editor cannot keep.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import diffexplain_fast as dx
from benchmarks.editing.figures import Panel, null_figures, panel_figures, share
from benchmarks.editing.scenes import FIRST_SEED, TrueScene, kind_of, outside, picture, question, true_scenes
from diffexplain_fast import tinyworld
from diffexplain_fast.editing.latents import pasted
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.methods.diffex.attribute import Findings, attribute
from diffexplain_fast.methods.diffex.notes import Done, Notes
from diffexplain_fast.methods.diffex.scene import Scene
from diffexplain_fast.methods.diffex.setup import Setup, Wishes, set_up
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.records import JsonObject
from diffexplain_fast.targets import as_target
from diffexplain_fast.tinyworld.store import Probe
from diffexplain_fast.tinyworld.words import NOTHING

_PUBLISHED_ROWS = 560
"""Rows of the published procedure a concept: four seeds of 50 steps of inversion and 45 guided ones."""


class Bench(NamedTuple):
    """What scenes are measured with."""

    pipeline: Pipeline
    probe: Probe
    classifiers: dict[str, Classifier]
    captions: bool

    @torch.no_grad()
    def values(self, pixels: Tensor) -> np.ndarray:
        """Return the centred logits [B, classifiers and classes] of pictures [B, 3, H, W]."""
        logits = [one.respond(pixels.clamp(0, 1), ()).logits.double() for one in self.classifiers.values()]
        return torch.cat([some - some.mean(1, keepdim=True) for some in logits], 1).numpy()


class Counting(Notes):
    """Counts the rows of every kind of step."""

    rows: Counter[str]

    def step(self, key: JsonObject, scene: Scene | None, run: Callable[[], Done]) -> Done:
        """Run a step."""
        before, what = self._budget.models.denoiser_rows, key["what"]
        done = super().step(key, scene, run)
        if what == "trials":
            size = len(key["concepts"][0])
            what = f"{('singles', 'pairs', 'triples')[size - 1]}, try {key['attempt'] + 1}"
        self.rows[what] += self._budget.models.denoiser_rows - before
        return done


def judged(scene: TrueScene, found: Findings, probe: Probe, perfect: Tensor) -> list[dict[str, Any]]:
    """Return success and preservation of every edit of one attribute, and those of a perfect editor.

    Args:
        scene: the picture.
        found: its edits.
        probe: judges them.
        perfect: [edits, 3, H, W], the true pictures through the autoencoder.
    """
    trials, rows = _singles(found), {row.concept: row for row in found.rows}
    best = pasted(scene.pixels[None], perfect.clamp(0, 1), torch.stack([trial.mask for trial in trials.values()]), 0)
    shown = torch.cat([scene.pixels[None], torch.stack([trial.pixels for trial in trials.values()]), best])
    before, *seen = tinyworld.name_attributes(probe, shown)
    right = {name for name, value in before.items() if scene.attributes.get(name) == value}
    edits = []
    for (concept, trial), after, ceiling in zip(trials.items(), seen, seen[len(trials) :], strict=False):
        name, _, value = concept.partition(":")
        wanted = scene.attributes | {name: value}
        gone = ("colour", "texture", "size", "place") if wanted["object"] == NOTHING else ()
        others = [other for other in after if other in right and other != name and other not in gone]
        row = rows[concept]
        edits.append(
            {
                "kind": kind_of(name, scene.attributes[name], value),
                "concept": concept,
                "success": after[name] == value,
                "unchanged": {other: after[other] == wanted[other] for other in others},
                "success of a perfect editor": ceiling[name] == value,
                "unchanged by a perfect editor": {other: ceiling[other] == wanted[other] for other in others},
                "outside": outside(scene, picture(scene.seed, wanted), trial.pixels),
                "verified": trial.verified,
                "effect": row.effect,
                "low": row.low,
                "high": row.high,
            }
        )
    return edits


def true_pictures(scene: TrueScene, found: Findings) -> Tensor:
    """Return the scene as each of its edits of one attribute truly changes it, pixels [edits, 3, H, W]."""
    changed = [scene.attributes | dict([concept.split(":")]) for concept in _singles(found)]
    return torch.stack([picture(scene.seed, one) for one in changed])


def panel_of(bench: Bench, scene: TrueScene, setup: Setup, found: Findings, true: Tensor, perfect: Tensor) -> Panel:
    """Return the effects of the edits on all classifiers: true ones, found ones, and those of a perfect editor."""
    trials, models = _singles(found), setup.lab.drawing.models
    own = scene.pixels[None]
    truth = bench.values(torch.cat([own, true]))
    ceiling = bench.values(torch.cat([models.decode(models.encode(own)), perfect]))
    masks = torch.stack([trial.mask for trial in trials.values()])
    after = bench.values(torch.stack([trial.pixels for trial in trials.values()]))
    before = bench.values(setup.lab.drawing.baseline(found.work[0].scene, masks))
    asked, start = [], 0
    for name, classifier in bench.classifiers.items():
        labels = [classifier.label_name(i) for i in range(truth.shape[1] // len(bench.classifiers))]
        best = start + int(truth[0, start : start + len(labels)].argmax())
        asked += sorted({best, *(start + labels.index(label) for label in SHIPPED[name])})
        start += len(labels)
    verified = np.array([trial.verified for trial in trials.values()])
    return Panel([*trials], truth[1:] - truth[:1], after - before, ceiling[1:] - ceiling[:1], verified, asked)


def _singles(found: Findings) -> dict[str, Any]:
    return {names[0]: trials[0] for names, trials in found.work[0].trials.items() if len(names) == 1}


def success(edits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return success and preservation by kind of edit."""

    def figures(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
        names = sorted({name for edit in some for name in edit["unchanged"]})
        return {
            "success": share([edit["success"] for edit in some]),
            "verified": fmean(edit["verified"] for edit in some),
            "all unchanged": fmean(all(edit["unchanged"].values()) for edit in some),
            "of a perfect editor": {
                "success": fmean(edit["success of a perfect editor"] for edit in some),
                "all unchanged": fmean(all(edit["unchanged by a perfect editor"].values()) for edit in some),
            },
            "unchanged": {n: fmean(e["unchanged"][n] for e in some if n in e["unchanged"]) for n in names},
            "outside of 255": fmean(edit["outside"] for edit in some),
        }

    kinds = sorted({edit["kind"] for edit in edits})
    return {"all": figures(edits)} | {kind: figures([e for e in edits if e["kind"] == kind]) for kind in kinds}


def measure(bench: Bench, scene: TrueScene, name: str, label: str) -> tuple[dict[str, Any], Panel]:
    """Return the line of one scene, and its effects on all classifiers."""
    began, wall = time.process_time(), time.perf_counter()
    classifier, pixels = bench.classifiers[name], scene.pixels[None]
    wishes = Wishes(captions=[scene.caption] if bench.captions else None)
    setup = set_up(bench.pipeline, classifier, as_target(label).bind(classifier), pixels, wishes, 0)
    notes = Counting(setup.lab.budget)
    notes.rows = Counter(captions=setup.lab.drawing.models.denoiser_rows)
    setup = setup._replace(lab=setup.lab._replace(notes=notes))
    found = attribute(setup.lab, pixels, setup.captions, setup.taxonomy, wishes.seeds, wishes.beam_width)
    seconds = {"cpu seconds": time.process_time() - began, "seconds": time.perf_counter() - wall}
    true, models = true_pictures(scene, found), setup.lab.drawing.models
    perfect = models.decode(models.encode(true))
    edits = judged(scene, found, bench.probe, perfect)
    panel = panel_of(bench, scene, setup, found, true, perfect)
    own = [*bench.classifiers].index(name) * (panel.truth.shape[1] // len(bench.classifiers))
    for edit, truth, ceiling in zip(edits, panel.truth, panel.ceiling, strict=True):
        place = own + classifier.label_index(label)
        edit |= {"truth": float(truth[place]), "ceiling": float(ceiling[place])}
    flip = found.counterfactuals[0]
    line = {
        "seed": scene.seed,
        "classifier": name,
        "label": label,
        "caption": setup.captions[0],
        "caption right": setup.captions[0] == scene.caption,
        "denoiser rows": setup.lab.drawing.models.denoiser_rows,
        "rows by step": dict(notes.rows),
        "concepts": len(edits),
        "sets": len(found.work[0].trials),
        "placebos": found.placebos,
        "errors": found.errors,
        "counterfactual": None if flip is None else {"flipped": flip.flipped, "changes": list(flip.changes)},
        "edits": edits,
    }
    return line | seconds, panel


def cost(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the lines cost, over concepts and over all sets of concepts that were edited."""
    rows = sum(line["denoiser rows"] for line in lines)
    concepts, sets = (sum(line[name] for line in lines) for name in ("concepts", "sets"))
    steps = sum((Counter(line["rows by step"]) for line in lines), Counter())
    return {
        "rows a concept": rows / concepts,
        "share of the published procedure's rows": rows / concepts / _PUBLISHED_ROWS,
        "rows a set of concepts": rows / sets,
        "rows a concept, by step": {name: count / concepts for name, count in steps.items()},
        "CPU seconds a picture": fmean(line["cpu seconds"] for line in lines),
    }


def reconstruction(pipeline: Pipeline, scenes: Sequence[TrueScene]) -> dict[str, float]:
    """Return how exactly scenes are given back."""
    pixels = torch.stack([scene.pixels for scene in scenes])
    exact = dx.editing.reconstruct(pipeline, pixels, captions=[scene.caption for scene in scenes])
    return {
        "latents": exact.latent_error,
        "pixels of 255": 255 * float((exact.pixels - pixels).abs().max()),
        "autoencoder of 255": 255 * exact.vae_error,
    }


def main() -> None:
    """Measure scenes, print a line for each, and append JSON lines to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing", description=__doc__)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first scene")
    parser.add_argument(
        "--captions", choices=("given", "own"), default="given", help="own: the pipeline describes them"
    )
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is appended to")
    arguments = parser.parse_args()
    pipeline = load_pipeline("tinyworld")
    classifiers = {name: Classifier.from_pretrained(f"tinyworld/{name}") for name in sorted(SHIPPED)}
    bench = Bench(pipeline, tinyworld.load_probe(), classifiers, arguments.captions == "given")
    scenes = true_scenes(arguments.scenes, pipeline.words(), arguments.first)
    options = f"--scenes {arguments.scenes} --first {arguments.first} --captions {arguments.captions}"
    record: dict[str, Any] = {"command": f"python -m benchmarks.editing {options}"}
    lines, panels = [], []
    with arguments.out.open("a", encoding="utf-8") as file:
        for i, scene in enumerate(scenes):
            line, panel = measure(bench, scene, *question(i, scene))
            lines.append(line)
            panels.append(panel)
            file.write(json.dumps(line) + "\n")
            file.flush()
            good = fmean(edit["success"] for edit in line["edits"])
            spent = f"{line['denoiser rows']} rows {line['cpu seconds']:.1f} CPU s"
            sys.stdout.write(f"{scene.seed} {line['classifier']:11} {line['label']:9} success {good:.2f} {spent}\n")
            sys.stdout.flush()
        edits = [edit for line in lines for edit in line["edits"]]
        record |= {
            "reconstruction": reconstruction(pipeline, scenes),
            "edits": success(edits),
            "effects": panel_figures(panels),
            "null": null_figures(edits, [line["placebos"] for line in lines]),
            "cost": cost(lines),
            "captions right": share([line["caption right"] for line in lines]),
            "versions": versions(),
            "device": device_record(),
        }
        file.write(json.dumps(record) + "\n")
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
