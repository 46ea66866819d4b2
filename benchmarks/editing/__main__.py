"""Edits and effects on the tiny world against its truth: ``python -m benchmarks.editing``.

The probe judges, which is neither the verifier nor the classifier. One JSON line for each scene, and one at the end for
all of them; figures by kind of change are success, every other attribute unchanged, and the change outside the region
that truly changes.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import diffexplain_fast as dx
from benchmarks.editing.scenes import TrueScene, kind_of, outside, picture, true_scenes
from diffexplain_fast import tinyworld
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.targets import as_target
from diffexplain_fast.tinyworld.store import Probe
from diffexplain_fast.tinyworld.words import NOTHING

_PUBLISHED_ROWS = 560
"""Rows of the published procedure a concept: four seeds of 50 steps of inversion and 45 guided ones."""
_MATTERS = 0.5


def spearman(first: list[float], second: list[float]) -> float:
    """Return the rank correlation; ties, which measured effects do not have, are broken by place."""
    ranks = [torch.tensor(values, dtype=torch.float64).argsort().argsort().double() for values in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def agreement(truth: list[float], found: list[float]) -> dict[str, float | int]:
    """Return how well effects agree with the truth: over all, and over those that matter."""
    if len(truth) < 3:
        return {"n": len(truth)}
    values = torch.tensor([truth, found], dtype=torch.float64)
    slope = float((values[0] * values[1]).sum() / values[0].square().sum())
    rows = {"n": len(truth), "spearman": spearman(truth, found), "pearson": float(torch.corrcoef(values)[0, 1])}
    return rows | {"slope": slope, "sign": fmean((a > 0) == (b > 0) for a, b in zip(truth, found, strict=True))}


def judged(scene: TrueScene, result: dx.Attribution, probe: Probe) -> list[dict[str, Any]]:
    """Return success, preservation and truth of every edit of one attribute."""
    found = []
    for row in result.rows:
        if not row.n:
            continue
        name, _, value = row.concept.partition(":")
        edited = as_pixels(result.edits(0, row.concept)[0].image, (64, 64))
        wanted = scene.attributes | {name: value}
        seen = tinyworld.name_attributes(probe, edited)[0]
        gone = ("colour", "texture", "size", "place") if wanted["object"] == NOTHING else ()
        others = [other for other in seen if other in wanted and other != name and other not in gone]
        found.append(
            {
                "kind": kind_of(name, scene.attributes[name], value),
                "concept": row.concept,
                "success": seen[name] == value,
                "unchanged": {other: seen[other] == wanted[other] for other in others},
                "outside": outside(scene, picture(scene.seed, wanted), edited[0]),
                "verified": row.success > 0,
                "effect": row.effect,
            }
        )
    return found


def add_truth(edits: list[dict[str, Any]], scene: TrueScene, answers: Answers, models: LatentModels) -> None:
    """Write the true effect of each edit, and what a perfect editor would measure through the autoencoder."""
    changed = [scene.attributes | dict([edit["concept"].split(":")]) for edit in edits]
    truth = torch.stack([scene.pixels, *(picture(scene.seed, one) for one in changed)])
    seen = models.decode(models.encode(truth))
    for name, pixels in (("truth", truth), ("ceiling", seen)):
        values = answers.ask(pixels).value.tolist()
        for edit, value in zip(edits, values[1:], strict=True):
            edit[name] = value - values[0]


def summary(edits: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of edits by kind, and how their effects agree with the truth."""

    def figures(some: list[dict[str, Any]]) -> dict[str, Any]:
        names = sorted({name for edit in some for name in edit["unchanged"]})
        return {
            "n": len(some),
            "success": fmean(edit["success"] for edit in some),
            "verified": fmean(edit["verified"] for edit in some),
            "all unchanged": fmean(all(edit["unchanged"].values()) for edit in some),
            "unchanged": {n: fmean(e["unchanged"][n] for e in some if n in e["unchanged"]) for n in names},
            "outside of 255": fmean(edit["outside"] for edit in some),
        }

    def pairs(some: Iterable[dict[str, Any]], found: str) -> dict[str, float | int]:
        chosen = list(some)
        return agreement([edit["truth"] for edit in chosen], [edit[found] for edit in chosen])

    matter = [edit for edit in edits if abs(edit["truth"]) > _MATTERS]
    return {
        "kinds": {
            kind: figures([e for e in edits if e["kind"] == kind]) for kind in sorted({e["kind"] for e in edits})
        },
        "all": figures(edits),
        "effects": pairs(edits, "effect"),
        "effects that matter": pairs(matter, "effect"),
        "ceiling": pairs(edits, "ceiling"),
        "ceiling that matters": pairs(matter, "ceiling"),
    }


def measure(scene: TrueScene, name: str, label: str, captions: bool, probe: Probe) -> dict[str, Any]:
    """Return the line of one scene."""
    with dx.Explainer("tinyworld", f"tinyworld/{name}") as explainer:
        began, wall = time.process_time(), time.perf_counter()
        given = [scene.caption] if captions else None
        result = explainer.attribute(scene.pixels[None], label, captions=given)
        seconds = {"cpu seconds": time.process_time() - began, "seconds": time.perf_counter() - wall}
        edits = judged(scene, result, probe)
        answers = Answers(explainer.classifier, as_target(label).bind(explainer.classifier))
        add_truth(edits, scene, answers, LatentModels(explainer.pipeline))
    flip = result.counterfactuals[0]
    singles = sum(row.n for row in result.rows)
    return {
        "seed": scene.seed,
        "classifier": name,
        "label": label,
        "caption": result.captions[0],
        "caption right": result.captions[0] == scene.caption,
        "denoiser rows": result.denoiser_rows,
        "concepts": singles,
        "placebos": result.placebos,
        "counterfactual": None if flip is None else {"flipped": flip.flipped, "changes": list(flip.changes)},
        "edits": edits,
        **seconds,
    }


def main() -> None:
    """Measure scenes, print a line for each, and append JSON lines to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing", description=__doc__)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument(
        "--captions", choices=("given", "own"), default="given", help="own: the pipeline describes them"
    )
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is appended to")
    arguments = parser.parse_args()
    pipeline, probe = load_pipeline("tinyworld"), tinyworld.load_probe()
    scenes = true_scenes(arguments.scenes, pipeline.words())
    exact = dx.editing.reconstruct(
        pipeline, torch.stack([s.pixels for s in scenes]), captions=[s.caption for s in scenes]
    )
    pixels = float((exact.pixels - torch.stack([scene.pixels for scene in scenes])).abs().max())
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.editing --scenes {arguments.scenes} --captions {arguments.captions}",
        "reconstruction": {
            "latents": exact.latent_error,
            "pixels of 255": 255 * pixels,
            "autoencoder of 255": 255 * exact.vae_error,
        },
    }
    lines = []
    names = sorted(SHIPPED)
    with arguments.out.open("a", encoding="utf-8") as file:
        for i, scene in enumerate(scenes):
            name = names[i % len(names)]
            labels = [*SHIPPED[name], scene.attributes["object"]]
            line = measure(scene, name, labels[i // len(names) % len(labels)], arguments.captions == "given", probe)
            lines.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
            good = fmean(edit["success"] for edit in line["edits"])
            cost = f"{line['denoiser rows']} rows {line['cpu seconds']:.1f} CPU s"
            sys.stdout.write(f"{scene.seed} {name:11} {line['label']:9} success {good:.2f} {cost}\n")
            sys.stdout.flush()
        placebos = sorted(abs(v) for line in lines for values in line["placebos"].values() for v in values)
        rows = sum(line["denoiser rows"] for line in lines) / sum(line["concepts"] for line in lines)
        record |= summary([edit for line in lines for edit in line["edits"]]) | {
            "placebo, 95 % of sizes below": placebos[int(0.95 * (len(placebos) - 1))],
            "rows a concept": rows,
            "share of the published procedure's rows": rows / _PUBLISHED_ROWS,
            "CPU seconds a picture": fmean(line["cpu seconds"] for line in lines),
            "captions right": fmean(line["caption right"] for line in lines),
            "versions": versions(),
            "device": device_record(),
        }
        file.write(json.dumps(record) + "\n")
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
