"""Search among more than 200 leaves against editing all of them: ``python -m benchmarks.editing.leaves --out FILE``.

The taxonomy has the tiny world's own words and phrases of its grammar, such as "blue striped" or "a small red thing on
desert", below group words. Of every scene each leaf that it does not show is edited in full, with its tries and checks:
what these edits do to a class is the truth here. A case is a scene and a class: the predicted one and those with a
planted shortcut, of every shipped classifier. The search is what ``attribute`` does with many concepts: quick edits of
all leaves, full edits of the finalists. The figure is how often its best verified effect reaches .95 of the best one
of all, and at which share of the rows. The search's rows are what its edits take at most, tries included; in the first
scenes the package's own functions run one case from the start, and what they spend is counted.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.editing.figures import share
from benchmarks.editing.phrases import leaves
from benchmarks.editing.scenes import TrueScene, true_scenes
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.methods.diffex import screening
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.methods.diffex.costs import rows_of_screening, rows_of_try
from diffexplain_fast.methods.diffex.notes import Done, Notes
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.setup import Wishes, set_up
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.work import Work
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.records import JsonObject
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.targets import as_target
from diffexplain_fast.taxonomy import Taxonomy

FIRST_SEED = 7_000_000
ENOUGH, MOST_ROWS, WANTED = 0.95, 0.45, 0.95
"""The bar: so much of the best effect, at so much of the exhaustive rows, in so many of the cases."""
_COUNTS = (1, 3, 5, 10, 15, 20, 26, 30, 40, 60)
"""Numbers of finalists of the table."""
_DRAWS = 2000
_RUN = 2
"""Scenes of which one case is run from the start."""


class Case(NamedTuple):
    """A class that is asked of a scene.

    Attributes:
        classifier: its name.
        label: the class.
        kept: by number of finalists, their best verified effect over that of all leaves.
        rows: by number of finalists, those of the search over those of all edits.
        finalists: as many as the search edits by itself.
        best: the best verified effect of all, in logits.
        same: whether the search's best leaf is the best of all.
    """

    classifier: str
    label: str
    kept: dict[int, float]
    rows: dict[int, float]
    finalists: int
    best: float
    same: bool


class Tried(Notes):
    """Remembers which edits each try has drawn."""

    names: dict[int, set[str]]

    def step(self, key: JsonObject, scene: Scene | None, run: Any) -> Done:
        """Run a step."""
        if key["what"] == "trials":
            self.names[key["attempt"]] |= {names[0] for names in key["concepts"]}
        return super().step(key, scene, run)


@torch.no_grad()
def values_of(classifier: Classifier, pixels: Tensor) -> np.ndarray:
    """Return the centred logits [B, classes] of pictures [B, 3, H, W]."""
    logits = classifier.respond(pixels.clamp(0, 1), ()).logits.double()
    return np.asarray(logits - logits.mean(1, keepdim=True))


class Measured(NamedTuple):
    """All that is drawn of a scene, which no classifier decides.

    Attributes:
        lab: has drawn it.
        scene: the picture.
        jobs: all edits.
        quick: pictures of quick edits and the pictures before, each [jobs, 3, H, W].
        full: the same of full edits, in the order of the jobs.
        verified: bool [jobs].
        tried: by try, names of the concepts that it has drawn.
        rows: of all full edits.
    """

    lab: Lab
    scene: Scene
    jobs: list[Job]
    quick: tuple[Tensor, Tensor]
    full: tuple[Tensor, Tensor]
    verified: np.ndarray
    tried: dict[int, set[str]]
    rows: int

    def rows_of(self, some: Sequence[int]) -> int:
        """Return the rows of a search with some jobs as finalists: of quick edits of all, and of full edits of those.

        Those of a try are an inversion for each editor, and its edits in batches that are filled up.
        """
        lab, found = self.lab, rows_of_screening(self.lab.drawing, self.jobs, screening.AT_ONCE)
        for attempt, names in self.tried.items():
            again = [self.jobs[i] for i in some if self.jobs[i].names[0] in names]
            found += rows_of_try(lab.drawing, lab.eye, self.scene, again, attempt) if again else 0
        return found


def measured(lab: Lab, scene: Scene, taxonomy: Taxonomy) -> Measured:
    """Draw quick and full edits of every leaf that a scene does not show."""
    jobs = [job for concept in taxonomy.concepts if (job := lab.jobs.of(scene, (concept,))) is not None]
    parts = [lab.drawing.quick(scene, jobs[i : i + screening.AT_ONCE]) for i in range(0, len(jobs), screening.AT_ONCE)]
    notes = Tried(lab.budget)
    notes.names = defaultdict(set)
    lab, before = lab._replace(notes=notes), lab.drawing.models.denoiser_rows
    trials: list[Trial] = lab.run(scene, jobs)
    rows = lab.drawing.models.denoiser_rows - before
    masks = torch.stack([trial.mask for trial in trials])
    return Measured(
        lab,
        scene,
        jobs,
        (torch.cat([part.pixels for part in parts]), torch.cat([part.before for part in parts])),
        (torch.stack([trial.pixels for trial in trials]), lab.drawing.baseline(scene, masks)),
        np.array([trial.verified for trial in trials]),
        notes.names,
        rows,
    )


def case_of(found: Measured, classifier: str, label: str, quick: np.ndarray, full: np.ndarray) -> Case:
    """Return how far a search comes whose quick edits and full edits have effects [jobs]."""
    sizes = np.where(found.verified, abs(full), 0.0)
    order, own = screening.by_strength(quick.tolist()), len(screening.strongest(quick.tolist()))
    counts = sorted({*(count for count in _COUNTS if count <= len(order)), own})
    kept = {count: float(sizes[order[:count]].max() / sizes.max()) for count in counts}
    rows = {count: found.rows_of(order[:count]) / found.rows for count in counts}
    same = int(sizes.argmax()) in order[:own]
    return Case(classifier, label, kept, rows, own, float(sizes.max()), same)


def cases_of(found: Measured, classifiers: dict[str, Classifier], scene: TrueScene) -> list[Case]:
    """Return the cases of a scene."""
    cases = []
    for name, classifier in classifiers.items():
        own = values_of(classifier, scene.pixels[None])[0]
        labels = dict.fromkeys((classifier.label_name(int(own.argmax())), *SHIPPED[name]))
        quick, full = (values_of(classifier, a) - values_of(classifier, b) for a, b in (found.quick, found.full))
        for label in labels:
            place = classifier.label_index(label)
            cases.append(case_of(found, name, label, quick[:, place], full[:, place]))
    return cases


def run_case(pipeline: Pipeline, classifier: Classifier, label: str, scene: TrueScene, taxonomy: Taxonomy) -> int:
    """Return the rows that a search by the package's own functions spends on one case."""
    lab, drawn = lab_of(pipeline, classifier, label, scene, taxonomy)
    jobs = [job for concept in taxonomy.concepts if (job := lab.jobs.of(drawn, (concept,))) is not None]
    before = lab.drawing.models.denoiser_rows
    lab.run(drawn, screening.finalists(lab, Work(drawn), jobs))
    return lab.drawing.models.denoiser_rows - before


def lab_of(
    pipeline: Pipeline, classifier: Classifier, label: str, scene: TrueScene, taxonomy: Taxonomy
) -> tuple[Lab, Scene]:
    """Return what draws, and the scene as it is edited."""
    target, wishes = as_target(label).bind(classifier), Wishes(taxonomy, captions=[scene.caption])
    lab = set_up(pipeline, classifier, target, scene.pixels[None], wishes, 0).lab
    lab = lab._replace(answers=Answers(classifier, target))
    return lab, lab.drawing.scene(0, scene.pixels[None], scene.caption)


def figures(scenes: Sequence[Sequence[Case]], count: int | None = None) -> dict[str, Any]:
    """Return how often the search is near enough to the best effect, and at what cost.

    The cases of one scene share its edits, so the share has two intervals: Wilson's of so many cases, and that of a
    bootstrap over scenes.

    Args:
        scenes: cases of each scene.
        count: of finalists; None for as many as the search edits.
    """
    near = [[case.kept[count or case.finalists] >= ENOUGH for case in cases] for cases in scenes]
    cases = [case for some in scenes for case in some]
    kept, rows = ([getattr(case, name)[count or case.finalists] for case in cases] for name in ("kept", "rows"))
    rng, sums = np.random.default_rng(0), np.array([[sum(some), len(some)] for some in near])
    draws = sums[rng.integers(0, len(sums), (_DRAWS, len(sums)))].sum(1)
    return {
        f"at least {ENOUGH} of the best effect": share([one for some in near for one in some]),
        "interval over scenes": np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975]).tolist(),
        "mean kept": fmean(kept),
        "least kept": min(kept),
        "share of the exhaustive rows, mean": fmean(rows),
        "share of the exhaustive rows, most": max(rows),
    }


def record_of(scenes: Sequence[Sequence[Case]], sizes: Sequence[int], rows: Sequence[int]) -> dict[str, Any]:
    """Return all figures.

    Args:
        scenes: cases of each scene.
        sizes: leaves that were edited of each scene.
        rows: of all edits of each scene.
    """
    cases = [case for some in scenes for case in some]
    clear = [[case for case in some if case.best > 0.5] for some in scenes]
    both = figures(scenes)
    good = both[f"at least {ENOUGH} of the best effect"]["share"] >= WANTED
    return {
        "scenes": len(scenes),
        "cases": len(cases),
        "leaves edited, least": min(sizes),
        "finalists, median": median(case.finalists for case in cases),
        "rows of all edits, mean": fmean(rows),
        "search": both,
        "search, where the best effect exceeds .5": figures([some for some in clear if some]),
        "same best leaf": share([case.same for case in cases]),
        "bar": bool(good and both["share of the exhaustive rows, mean"] <= MOST_ROWS),
        "by number of finalists": {
            str(count): figures(scenes, count) for count in _COUNTS if all(count in case.kept for case in cases)
        },
    }


def main() -> None:
    """Measure scenes, and write a JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing.leaves", description=__doc__)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first scene")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file, which is replaced")
    arguments = parser.parse_args()
    pipeline = load_pipeline("tinyworld")
    classifiers = {name: Classifier.from_pretrained(f"tinyworld/{name}") for name in sorted(SHIPPED)}
    taxonomy, scenes = leaves(pipeline.words()), true_scenes(arguments.scenes, pipeline.words(), arguments.first)
    asked, options = next(iter(classifiers.values())), f"--scenes {arguments.scenes} --first {arguments.first}"
    record: dict[str, Any] = {"command": f"python -m benchmarks.editing.leaves {options}", "leaves": len(taxonomy)}
    record |= {"versions": versions(), "device": device_record()}
    found, sizes, rows, run = [], [], [], []
    for i, scene in enumerate(scenes):
        every = measured(*lab_of(pipeline, asked, scene.attributes["object"], scene, taxonomy), taxonomy)
        found.append(cases_of(every, classifiers, scene))
        sizes.append(len(every.jobs))
        rows.append(every.rows)
        if i < _RUN:
            case = found[-1][i]
            spent = run_case(pipeline, classifiers[case.classifier], case.label, scene, taxonomy)
            run.append({"counted": spent, "reckoned": round(case.rows[case.finalists] * every.rows)})
        near = fmean(case.kept[case.finalists] >= ENOUGH for case in found[-1])
        least = min(case.kept[case.finalists] for case in found[-1])
        sys.stdout.write(f"{scene.seed} {sizes[-1]} leaves {rows[-1]} rows near {near:.2f} least {least:.2f}\n")
        sys.stdout.flush()
        now = record | record_of(found, sizes, rows) | {"rows of searches that were run": run}
        write_json_atomic(arguments.out, now | {"by case": [[plain(case) for case in some] for some in found]})
    sys.stdout.write(f"{now['search']}\nbar {now['bar']}\n")


def plain(case: Case) -> dict[str, Any]:
    """Return a case as values of JSON."""
    names = ("classifier", "label", "best", "same")
    return {name: getattr(case, name) for name in names} | {"kept": case.kept[case.finalists]}


if __name__ == "__main__":
    main()
