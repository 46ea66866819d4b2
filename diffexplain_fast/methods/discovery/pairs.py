"""Pairs of concepts that act together: found in the pool, measured on fresh pictures that share their start latents."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.phrases import Phrases, check_captions
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.rows import Trial
from diffexplain_fast.methods.discovery.scenes import Cell, pair_scenes, without_neither
from diffexplain_fast.results.audit_rows import Interaction
from diffexplain_fast.stats.cells import concept_effects
from diffexplain_fast.stats.multiplicity import benjamini_hochberg
from diffexplain_fast.stats.pairs import all_pairs, paired

SCENES = 16
"""Fresh scenes of a pair; each is drawn four times, so two units of the pool for each of the four."""
MOST = 8
"""Pairs that are measured at most, the strongest first: 64 pictures each."""
_INTERACTION = 1.0
"""Minimal interaction in logits."""


class Candidate(NamedTuple):
    """A pair that the pool suggests: target, both concepts by their places, and the estimated interaction."""

    target: int
    first: int
    second: int
    estimate: float


def candidates(trial: Trial) -> list[Candidate]:
    """Return the pairs that the pool suggests, the strongest first.

    A pair that adds more than both concepts do alone may be an "and"; one that adds less is looked at only where both
    concepts raise the target, as in an "or". Pairs with the target's own object are left out: that an object and a
    shortcut are each enough is what the verdict "both" says.

    Args:
        trial: the finished trial.
    """
    asked, level = trial.plan.asked, trial.level
    if asked.groups < 2:
        return []
    fit, effects = concept_effects(asked.unweighted(), trial.data.values)
    pairs = all_pairs(fit, asked.design, _INTERACTION)
    values = sum(asked.levels[: asked.groups])
    places = {int(cell): place for place, cell in enumerate(asked.places[:values])}  # free words have no scenes
    found = []
    for target in range(len(trial.readout.names)):
        own = own_concept(trial.concepts, trial.readout.labels[target])
        above, below = pairs.adjusted_above[:, target] <= level, pairs.adjusted_below[:, target] <= level
        for pair in np.flatnonzero(above | below):
            one, two = int(pairs.first[pair]), int(pairs.second[pair])
            if one not in places or two not in places or own in (places[one], places[two]):
                continue
            alone = effects.estimate[[one, two], target]
            estimate = float(pairs.estimate[pair, target])
            if (above[pair] and alone.sum() + estimate <= trial.delta) or (below[pair] and alone.min() <= trial.delta):
                continue
            found.append(Candidate(target, places[one], places[two], estimate))
    return sorted(found, key=lambda one: -abs(one.estimate))


def interactions_of(
    trial: Trial, pool: Pool, phrases: Phrases, seed: int, report: Callable[[int, int], None]
) -> tuple[list[Interaction], list[Candidate]]:
    """Return the pairs that fresh pictures confirm or refute, with their kinds, and the pairs that none can show.

    Where a group of a pair has no value but the pair's own and the target's object, scenes of neither leave it out.
    Pairs are not measured where captions cannot do that.

    Args:
        trial: the finished trial.
        pool: draws the pictures, in stages of their own.
        phrases: how concepts are said.
        seed: of the fresh scenes.
        report: receives pairs that are measured and pairs that will be.
    """
    chosen: list[Candidate] = []
    left: list[Candidate] = []
    for candidate in candidates(trial):
        first, second, own = _cells(trial, candidate)
        avoided = [first, second, *([] if own is None else [own])]
        silent = phrases.silent or not without_neither(trial.concepts.groups, avoided)
        (chosen if silent else left).append(candidate)
    chosen, measured = chosen[:MOST], []
    if chosen:
        report(0, len(chosen))
    for done, candidate in enumerate(chosen, start=1):
        scenes = _measured(trial, pool, phrases, candidate, seed)
        measured.append(paired(scenes[:, :, None], _INTERACTION, trial.delta, trial.level))
        report(done, len(chosen))
    adjusted = benjamini_hochberg(np.array([float(one.p[0]) for one in measured]))
    names = trial.concepts.names
    found = [
        Interaction(
            target=trial.readout.names[candidate.target],
            concept_a=names[candidate.first],
            concept_b=names[candidate.second],
            effect=float(one.effect[0]),
            low=float(one.low[0]),
            high=float(one.high[0]),
            adjusted_p=float(p),
            kind=str(one.kind[0]),
        )
        for candidate, one, p in zip(chosen, measured, adjusted, strict=True)
    ]
    return found, left


def _measured(trial: Trial, pool: Pool, phrases: Phrases, candidate: Candidate, seed: int) -> np.ndarray:
    """Return the target's values in fresh scenes: neither concept, the first, the second, both, [scenes, 4]."""
    names = [trial.concepts.names[place] for place in (candidate.first, candidate.second)]
    label = trial.readout.names[candidate.target]
    digest = hashlib.sha256("/".join([label, *names]).encode()).hexdigest()
    rng = np.random.default_rng([seed, int(digest[:12], 16)])
    *pair, own = _cells(trial, candidate)
    found = []
    for variant in pair_scenes(trial.concepts.groups, (pair[0], pair[1]), own, SCENES, rng):
        captions = [phrases.say(scene, (), 0) for scene in variant]
        check_captions(captions, pool.pipeline)
        # The four variants of a scene share a stage, and so their start latents.
        pictures = pool.pictures(f"pair-{digest[:12]}", captions, 0, SCENES)
        said = [trial.readout(pool.as_pixels(levels))[0][:, candidate.target] for levels in pictures]
        found.append(np.concatenate(said))
    return np.stack(found, 1)


def named_pairs(trial: Trial, pairs: Sequence[Candidate]) -> list[dict[str, str]]:
    """Return targets and concepts of pairs by their names."""
    targets, names = trial.readout.names, trial.concepts.names
    return [
        {"target": targets[one.target], "concept_a": names[one.first], "concept_b": names[one.second]} for one in pairs
    ]


def _cells(trial: Trial, candidate: Candidate) -> tuple[Cell, Cell, Cell | None]:
    """Return group and value of both concepts of a pair, and of the target's own object."""
    own = own_concept(trial.concepts, trial.readout.labels[candidate.target])
    names = [trial.concepts.names[place].partition(":") for place in (candidate.first, candidate.second)]
    (first, _, one), (second, _, other) = names
    mine = None if own is None else trial.concepts.names[own].partition(":")
    return (first, one), (second, other), None if mine is None else (mine[0], mine[2])
