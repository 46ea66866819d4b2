"""DiffEx on given pictures: edit, check, measure, and say what each concept does, alone and with others."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.pictures import as_image
from diffexplain_fast.methods.diffex.flips import counterfactual_of
from diffexplain_fast.methods.diffex.pairs import chosen_pairs, interactions_of
from diffexplain_fast.methods.diffex.scene import shows
from diffexplain_fast.methods.diffex.screening import expected_rows, finalists
from diffexplain_fast.methods.diffex.summary import effects_of, row_of, screened_row
from diffexplain_fast.methods.diffex.telling import Telling
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.work import Work, measure_nulls
from diffexplain_fast.results.effects import Counterfactual, Edit, Effect, Interaction, Row
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.taxonomy import Concept, Taxonomy


class Findings(NamedTuple):
    """What was found; see ``results.attribution.Attribution``; and the work of each picture."""

    rows: list[Row]
    effects: list[Effect]
    interactions: list[Interaction]
    counterfactuals: list[Counterfactual | None]
    placebos: dict[str, list[float]]
    errors: dict[str, list[float]]
    found: dict[int, list[Edit]]
    recognised: list[int]
    shown: list[list[str]]
    work: list[Work]


def attribute(
    lab: Lab,
    pixels: Tensor,
    captions: Sequence[str],
    taxonomy: Taxonomy,
    seeds: int,
    beam_width: int,
    callback: Callable[[Progress], None] | None = None,
) -> Findings:
    """Return what the concepts of a taxonomy do to the classifier's answer on pictures.

    Args:
        lab: draws, checks and measures.
        pixels: the pictures [B, 3, H, W].
        captions: of each picture.
        taxonomy: the concepts.
        seeds: edits of each picture and concept, with noise of their own.
        beam_width: w: at most w^2 pairs are drawn of each picture, see ``chosen_pairs``, and at most w sets of two and
            w of three in search of a flip.
        callback: receives a ``Progress`` after every batch of the denoiser, and after every picture.

    Raises:
        ValueError: a budget that does not even allow the first edit.

    Source: DiffEx (CVPR 2025), algorithm 1, with leaves that are screened instead of pruned by their parents.
    """
    work, required, telling = [], False, Telling(lab.drawing.models, callback)
    for i, caption in telling.edits([*enumerate(captions)]):
        scene = lab.drawing.scene(i, pixels[i : i + 1], caption)
        work.append(Work(scene))
        jobs = [job for concept in taxonomy.concepts if (job := lab.jobs.of(scene, (concept,))) is not None]
        if jobs and not required:
            required = True
            lab.budget.require(lab.rows(scene, jobs[:1]))
        telling.rows = seeds * expected_rows(lab, scene, jobs)
        for seed in range(seeds):
            some, beside = finalists(lab, work[-1], jobs) if seed == 0 else work[-1].jobs, work[-1].each_job
            work[-1].keep(lab.run(scene, some, seed, beside=beside))
    same = [next(j for j in range(i + 1) if torch.equal(pixels[j], pixels[i])) for i in range(len(pixels))]
    placebos = measure_nulls(lab, work, telling, same)
    rows, nulls = _rows(work), [one.null for one in work]
    effects = effects_of(rows, nulls, same)
    pairs = chosen_pairs(taxonomy.concepts, effects, beam_width, lab.drawing.wording)
    for one in telling.each("joint", work):
        _draw_pairs(lab, one, pairs)
    # Pairs that the search for a flip draws are chosen by what they do to the answer, and are no interactions.
    interactions = interactions_of([one.trials for one in work], nulls, same)
    flips = [_flip(lab, one, beam_width) for one in telling.each("flip", work)]
    errors = {name: [x for null in nulls for x in getattr(null, name)] for name in ("redraws", "autoencoder")}
    lab.jobs.warn()
    recognised = [i for i, one in enumerate(work) if bool(lab.answers.ask(one.scene.pixels).hit[0])]
    found = {i: _edits(one, i in recognised) for i, one in enumerate(work)}
    shown = [[c.name for c in taxonomy.concepts if shows(one.scene, c, lab.drawing.wording)] for one in work]
    return Findings(rows, effects, interactions, flips, placebos, errors, found, recognised, shown, work)


def _rows(work: Sequence[Work]) -> list[Row]:
    found = []
    for one in work:
        found += [row_of(one.scene.index, trials, one.null) for names, trials in one.trials.items() if len(names) == 1]
        found += [
            screened_row(one.scene.index, name, effect)
            for name, effect in one.screened.items()
            if (name,) not in one.trials
        ]
    return found


def _draw_pairs(lab: Lab, work: Work, pairs: Sequence[tuple[Concept, Concept]]) -> None:
    known = [(a, b) for a, b in pairs if (a.name,) in work.trials and (b.name,) in work.trials]
    jobs = [job for pair in known if (job := lab.jobs.of(work.scene, pair)) is not None]
    # There are many pairs: rows are better spent on another try of the singles, which count in every pair of theirs.
    work.keep(lab.run(work.scene, jobs, tries=1))


def _flip(lab: Lab, work: Work, width: int) -> Counterfactual | None:
    found, new = counterfactual_of(lab, work.scene, work.all, width)
    work.keep(new)
    return found


def _edits(work: Work, recognised: bool) -> list[Edit]:
    edits = []
    for trial in work.all:
        points = None if math.isnan(trial.points) else trial.points
        flipped = trial.flipped if recognised and points is not None else None
        edits.append(Edit(as_image(trial.pixels), trial.verified, trial.effect, trial.job.names, points, flipped))
    return edits
