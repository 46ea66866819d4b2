"""Pairs of edits and counterfactuals against the truth: ``python -m benchmarks.editing.joint --scenes 12 --out FILE``.

Pairs: heads of known form (both are needed, one is enough, exactly one, one without the other, a sum) read two concepts
from what the shipped probe sees, so that the interaction of every pair is known by rendering the scene with one, the
other and both. Edits are verified by another model. Counterfactuals: every shipped classifier is asked about its own
answer, and the probe says what the counterfactual has changed.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.editing.figures import share
from benchmarks.editing.scenes import TrueScene, picture, true_scenes
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.methods.diffex.attribute import Findings, attribute
from diffexplain_fast.methods.diffex.setup import Wishes, set_up
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.targets import as_target
from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld.store import Probe
from diffexplain_fast.tinyworld.words import NOTHING, values_of

FIRST_SEED = 6_500_000
HEADS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "and": lambda a, b: a * b,
    "or": lambda a, b: a + b - a * b,
    "xor": lambda a, b: a + b - 2 * a * b,
    "and not": lambda a, b: a * (1 - b),
    "sum": lambda a, b: a + b,
}
"""Outputs by how surely each of two concepts is seen, from 0 to 1."""
CATEGORIES = (
    ("background", "colour"),
    ("companion", "background"),
    ("object", "background"),
    ("companion", "colour"),
    ("texture", "background"),
    ("object", "companion"),
)
"""Of the two concepts of a scene, by turns."""
_EACH = 2
"""Values of each category: one that the heads read and one that they do not."""
_NONE, _NEAR = 0.1, 0.35
"""Size below which a true interaction is none, and how near to it a measured one has to be."""


class Heads(nn.Module):
    """All of ``HEADS`` on two concepts as the outputs of a regression.

    Args:
        probe: the shipped one.
        first: attribute and value.
        second: another attribute, and value.
    """

    def __init__(self, probe: Probe, first: tuple[str, str], second: tuple[str, str]) -> None:
        super().__init__()
        self._probe, self._read = probe, (first, second)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [B, heads] of pixels [B, 3, 64, 64]."""
        seen = self._probe(pixels)
        a, b = (seen[name].softmax(1)[:, values_of(name).index(value)] for name, value in self._read)
        return torch.stack([head(a, b) for head in HEADS.values()], 1)


class Pair(NamedTuple):
    """An interaction that was measured.

    Attributes:
        head: name of one of ``HEADS``.
        concepts: both.
        truth: by rendering.
        found: by edits.
        verified: whether all three edits were.
    """

    head: str
    concepts: tuple[str, str]
    truth: float
    found: float
    verified: bool


def chosen(i: int, scene: TrueScene) -> dict[str, list[str]]:
    """Return the values of two attributes that the i-th scene does not show; the heads read the first of each."""
    return {
        name: [v for v in values_of(name) if v not in (scene.attributes[name], NOTHING)][i % 2 :][:_EACH]
        for name in CATEGORIES[i % len(CATEGORIES)]
    }


def pairs_of(pipeline: Pipeline, probe: Probe, i: int, scene: TrueScene) -> list[Pair]:
    """Return the interactions on all heads of the pairs of a scene's concepts of which they read at least one."""
    values = chosen(i, scene)
    first, second = ((name, words[0]) for name, words in values.items())
    heads = Heads(probe, first, second)
    classifier = Classifier(heads, labels=list(HEADS), output="regression")
    found = _found(pipeline, classifier, "sum", scene, Wishes(captions=[scene.caption], taxonomy=Taxonomy(values)))
    work, rows = found.work[0], []
    names = {name: [f"{name}:{word}" for word in words] for name, words in values.items()}
    read = {":".join(first), ":".join(second)}
    for a, b in itertools.product(*names.values()):
        if not read & {a, b}:
            continue
        trials = [work.trials.get(key, [None])[0] for key in ((a, b), (a,), (b,))]
        if None in trials:
            continue
        changes = [dict(c.split(":") for c in some) for some in ((a, b), (a,), (b,), ())]
        true = torch.stack([picture(scene.seed, scene.attributes | one) for one in changes])
        drawn = torch.stack([*(trial.pixels for trial in trials), scene.pixels])
        with torch.no_grad():
            truth, measured = (_interaction(heads(pixels.clamp(0, 1))) for pixels in (true, drawn))
        good = all(trial.verified for trial in trials)
        rows += [Pair(h, (a, b), t, m, good) for h, t, m in zip(HEADS, truth, measured, strict=True)]
    return rows


def pair_figures(rows: Sequence[Pair]) -> dict[str, Any]:
    """Return how often the sign of an interaction is right, and how often none is found where there is none."""

    def figures(some: Sequence[Pair]) -> dict[str, Any]:
        there = [row for row in some if abs(row.truth) > _NEAR]
        none = [row for row in some if abs(row.truth) <= _NONE]
        return {
            "sign": share([row.truth * row.found > 0 for row in there]) if there else None,
            "none": share([abs(row.found - row.truth) <= _NEAR for row in none]) if none else None,
        }

    verified = [row for row in rows if row.verified]
    return {"verified": figures(verified), "all": figures(rows)} | {
        head: figures([row for row in verified if row.head == head]) for head in HEADS
    }


def counterfactual(pipeline: Pipeline, probe: Probe, name: str, scene: TrueScene) -> dict[str, Any] | None:
    """Return what leaving a classifier's own answer about a scene took; None where it is too unsure to be asked."""
    classifier = Classifier.from_pretrained(f"tinyworld/{name}")
    with torch.no_grad():
        label = classifier.label_name(int(classifier(scene.pixels[None]).argmax(1)))
    found = _found(pipeline, classifier, label, scene, Wishes(captions=[scene.caption]))
    flip = found.counterfactuals[0]
    if flip is None:
        return None
    singles = [names[0] for names in found.work[0].trials if len(names) == 1]
    true = torch.stack([picture(scene.seed, scene.attributes | dict([one.split(":")])) for one in singles])
    with torch.no_grad():
        enough = [classifier.label_name(int(k)) != label for k in classifier(true).argmax(1)]
    edited = next(trial for trial in found.work[0].all if trial.job.names == flip.changes)
    wanted = scene.attributes | dict(change.split(":") for change in flip.changes)
    gone = ("colour", "texture", "size", "place") if wanted["object"] == NOTHING else ()
    (shown,) = tinyworld.name_attributes(probe, edited.pixels[None])
    return {
        "seed": scene.seed,
        "classifier": name,
        "label": label,
        "planted": label in SHIPPED[name],
        "flipped": flip.flipped,
        "changes": list(flip.changes),
        "one is enough": any(enough),
        "unchanged": [shown[o] == wanted[o] for o in shown if o in wanted and o not in gone],
    }


def flip_figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how often the decision leaves the target, by how many changes, and what else changed."""

    def figures(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
        single = [len(row["changes"]) for row in some if row["one is enough"] and row["flipped"]]
        return {
            "flipped": share([row["flipped"] for row in some]),
            "changes where one is enough, median": median(single) if single else None,
            "unchanged": fmean(one for row in some for one in row["unchanged"]),
        }

    kinds = {"planted classes": True, "other classes": False}
    parts = {kind: [row for row in rows if row["planted"] == planted] for kind, planted in kinds.items()}
    return {"all": figures(rows)} | {kind: figures(some) for kind, some in parts.items() if some}


def _logits(probe: Any, pixels: Tensor) -> tuple[Tensor, Any]:
    return probe.logits(pixels), probe.heads


def _interaction(values: Tensor) -> list[float]:
    """Return the interaction [heads] of values of both, one, the other and neither [4, heads]."""
    found: list[float] = (values[0] - values[1] - values[2] + values[3]).tolist()
    return found


def _found(pipeline: Pipeline, classifier: Classifier, label: str, scene: TrueScene, wishes: Wishes) -> Findings:
    pixels = scene.pixels[None]
    setup = set_up(pipeline, classifier, as_target(label).bind(classifier), pixels, wishes, 0)
    return attribute(setup.lab, pixels, setup.captions, setup.taxonomy, wishes.seeds, wishes.beam_width)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing.joint", description=__doc__)
    parser.add_argument("--scenes", type=int, default=12, help="of pairs, and of counterfactuals")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first scene")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    pipeline, probe = load_pipeline("tinyworld"), tinyworld.load_probe()
    scenes = true_scenes(given.scenes, pipeline.words(), given.first)
    pairs: list[Pair] = []
    flips: list[dict[str, Any]] = []
    for i, scene in enumerate(scenes):
        pairs += pairs_of(pipeline, probe, i, scene)
        name = sorted(SHIPPED)[i % len(SHIPPED)]
        flip = counterfactual(pipeline, probe, name, scene)
        flips += [] if flip is None else [flip]
        sys.stdout.write(f"{scene.seed} {len(pairs)} interactions; {flip}\n")
        sys.stdout.flush()
    result = {
        "command": f"python -m benchmarks.editing.joint --scenes {given.scenes} --first {given.first}",
        "pairs": pair_figures(pairs),
        "counterfactuals": flip_figures(flips),
        "interactions": [row._asdict() for row in pairs],
        "flips": flips,
        "versions": versions(),
        "device": device_record(),
    }
    write_json_atomic(given.out, result)
    sys.stdout.write(f"{result['pairs']}\n{result['counterfactuals']}\n")


if __name__ == "__main__":
    main()
