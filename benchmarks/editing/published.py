"""The published procedure as a rival: ``python -m benchmarks.editing.published --scenes 1 --out FILE``.

Each keyword is added by LEDITS++-like guidance to a picture that is inverted again for it, with four seeds of 50 steps,
of which edits leave out the first tenth. Its effect is the mean over the seeds of the edited picture's logit minus that
of the given picture, whether or not the edit succeeded. Algorithm 1 as printed keeps the strongest single keywords and
joins those only. Cross-attention masks are missing here, as in ``editing.guide``.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.editing.figures import agreement, share
from benchmarks.editing.scenes import FIRST_SEED, TrueScene, kind_of, picture, question, true_scenes
from diffexplain_fast import tinyworld
from diffexplain_fast.editing.editors import guide
from diffexplain_fast.editing.inversion import Inversion, invert
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import Ancestral, ancestral_steps
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import as_target
from diffexplain_fast.tinyworld.rewording import world_taxonomy
from diffexplain_fast.tinyworld.words import NOTHING

STEPS, SKIPPED, SEEDS, BEAM = 50, 5, 4, 4


class Edits(NamedTuple):
    """What the procedure makes of one set of keywords.

    Attributes:
        pixels: [seeds, 3, H, W].
        effect: mean over the seeds.
    """

    pixels: Tensor
    effect: float


class Published:
    """The published procedure on one picture.

    Args:
        models: encoder, denoiser and decoder.
        answers: the classifier's.
        pixels: the picture [1, 3, H, W].
        steps: of an inversion.
        skipped: of those, the first ones that no edit runs.
        seeds: inversions of each set of keywords.
    """

    def __init__(
        self,
        models: LatentModels,
        answers: Answers,
        pixels: Tensor,
        steps: int = STEPS,
        skipped: int = SKIPPED,
        seeds: int = SEEDS,
    ) -> None:
        self.models, self._answers, self._skipped, self._seeds = models, answers, skipped, seeds
        self._table, self._clean = ancestral_steps(models.pipeline.scheduler, steps), models.encode(pixels)
        self._before = float(answers.ask(pixels).value)

    def edit(self, keywords: Sequence[str]) -> Edits:
        """Return the edits that add keywords, each from an inversion of its own."""
        text, found = self.models.text([" ".join(keywords)]), []
        for seed in range(self._seeds):
            whole = invert(self.models, self._table, self._clean, "", seed)
            found.append(guide(self.models, _without_first(whole, self._skipped), text))
        pixels = self.models.decode(torch.cat(found)).clamp(0, 1)
        return Edits(pixels, float(self._answers.ask(pixels).value.mean()) - self._before)

    def search(self, concepts: Sequence[tuple[str, str]], beam: int = BEAM) -> dict[tuple[str, ...], Edits]:
        """Return the edits of all keywords, and of all pairs of those that the beam keeps.

        Args:
            concepts: category and keyword of each.
            beam: single keywords that are kept, those that lower the score most.
        """
        found = {(word,): self.edit([word]) for _, word in concepts}
        category = {word: name for name, word in concepts}
        kept = sorted(category, key=lambda word: found[word,].effect)[:beam]
        pairs = [(a, b) for a, b in itertools.combinations(kept, 2) if category[a] != category[b]]
        return found | {pair: self.edit(pair) for pair in pairs}


def _without_first(whole: Inversion, count: int) -> Inversion:
    table = Ancestral(whole.table.steps[count:], whole.table.signals[count:])
    left = whole._replace(table=table, samples=whole.samples[count:], residuals=whole.residuals[count:])
    return left._replace(guidance=whole.guidance[count:], outputs=whole.outputs[count:])


def measure(scene: TrueScene, name: str, label: str, words: list[str]) -> dict[str, Any]:
    """Return the line of one scene."""
    probe, models = tinyworld.load_probe(), LatentModels(load_pipeline("tinyworld"), one_shape=False)
    classifier = Classifier.from_pretrained(f"tinyworld/{name}")
    answers = Answers(classifier, as_target(label).bind(classifier))
    named = [(concept.category, concept.word) for concept in world_taxonomy(words).concepts]
    # Nothing of that name can be added, and what is there already need not be.
    concepts = [
        (part, word) for part, word in named if word != NOTHING and scene.attributes.get(part) not in (None, word)
    ]
    began, procedure = time.process_time(), Published(models, answers, scene.pixels[None])
    found = procedure.search(concepts)
    seconds, edits = time.process_time() - began, []
    before = answers.ask(scene.pixels[None]).value
    for part, word in concepts:
        wanted, one = scene.attributes | {part: word}, found[word,]
        for seen in tinyworld.name_attributes(probe, one.pixels):
            others = [seen[other] == wanted[other] for other in seen if other in wanted and other != part]
            edits.append({"kind": kind_of(part, scene.attributes[part], word), "success": seen[part] == word})
            edits[-1]["all unchanged"] = all(others)
        truth = float((answers.ask(picture(scene.seed, wanted)[None]).value - before)[0])
        edits[-1] |= {"concept": f"{part}:{word}", "effect": one.effect, "truth": truth}
    return {
        "seed": scene.seed,
        "classifier": name,
        "label": label,
        "denoiser rows": models.denoiser_rows,
        "rows a concept, singles": STEPS * SEEDS + 2 * (STEPS - SKIPPED) * SEEDS,
        "rows a concept": models.denoiser_rows / len(concepts),
        "cpu seconds": seconds,
        "edits": edits,
    }


def main() -> None:
    """Measure scenes, and append a JSON line for each and one for all to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing.published", description=__doc__)
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first scene")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is appended to")
    arguments = parser.parse_args()
    words = load_pipeline("tinyworld").words()
    scenes = true_scenes(arguments.scenes, words, arguments.first)
    lines = [measure(scene, *question(i, scene), words) for i, scene in enumerate(scenes)]
    edits = [edit for line in lines for edit in line["edits"]]
    kinds = sorted({edit["kind"] for edit in edits})
    record = {
        "command": f"python -m benchmarks.editing.published --scenes {arguments.scenes} --first {arguments.first}",
        "success": {kind: share([e["success"] for e in edits if e["kind"] == kind]) for kind in kinds},
        "all unchanged": share([edit["all unchanged"] for edit in edits]),
        "effects": agreement(
            *(torch.tensor([e[key] for e in edits if key in e]).numpy() for key in ("truth", "effect"))
        ),
        "rows a concept": fmean(line["rows a concept"] for line in lines),
        "CPU seconds a picture": fmean(line["cpu seconds"] for line in lines),
        "versions": versions(),
        "device": device_record(),
    }
    with arguments.out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in [*lines, record])
    sys.stdout.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
