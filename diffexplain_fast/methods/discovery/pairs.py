"""Pairs of concepts that act together: found in the pool, measured on fresh pictures that share their start latents."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.phrases import Phrases, check_captions
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.rows import Trial
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
) -> list[Interaction]:
    """Return the pairs that fresh pictures confirm or refute, with their kinds.

    Args:
        trial: the finished trial.
        pool: draws the pictures, in stages of their own.
        phrases: how concepts are said.
        seed: of the fresh scenes.
        report: receives pairs that are measured and pairs that will be.
    """
    chosen = candidates(trial)[:MOST]
    measured = []
    if chosen:
        report(0, len(chosen))
    for done, candidate in enumerate(chosen, start=1):
        scenes = _measured(trial, pool, phrases, candidate, seed)
        measured.append(paired(scenes[:, :, None], _INTERACTION, trial.delta, trial.level))
        report(done, len(chosen))
    adjusted = benjamini_hochberg(np.array([float(one.p[0]) for one in measured]))
    names = trial.concepts.names
    return [
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


def _measured(trial: Trial, pool: Pool, phrases: Phrases, candidate: Candidate, seed: int) -> np.ndarray:
    """Return the target's values in fresh scenes: neither concept, the first, the second, both, [scenes, 4]."""
    names = [trial.concepts.names[place] for place in (candidate.first, candidate.second)]
    label = trial.readout.names[candidate.target]
    digest = hashlib.sha256("/".join([label, *names]).encode()).hexdigest()
    rng = np.random.default_rng([seed, int(digest[:12], 16)])
    variants = _scenes(trial, candidate, rng)
    found = []
    for variant in variants:
        captions = [phrases.say(scene, (), 0) for scene in variant]
        check_captions(captions, pool.pipeline)
        # The four variants of a scene share a stage, and so their start latents.
        pictures = pool.pictures(f"pair-{digest[:12]}", captions, 0, SCENES)
        said = [trial.readout(pool.as_pixels(levels))[0][:, candidate.target] for levels in pictures]
        found.append(np.concatenate(said))
    return np.stack(found, 1)


def _scenes(trial: Trial, candidate: Candidate, rng: np.random.Generator) -> list[list[dict[str, str]]]:
    """Return the scenes of the four variants; the target's own object is in none of them."""
    one, two = (_cell(trial, place) for place in (candidate.first, candidate.second))
    own = own_concept(trial.concepts, trial.readout.labels[candidate.target])
    avoided = {one, two} if own is None else {one, two, _cell(trial, own)}
    variants: list[list[dict[str, str]]] = [[], [], [], []]
    for _ in range(SCENES):
        scene = {}
        for group, values in trial.concepts.groups.items():
            others = [value for value in values if (group, value) not in avoided]
            scene[group] = str(rng.choice(others or list(values)))
        for place, added in enumerate(([], [one], [two], [one, two])):
            variants[place].append({**scene, **dict(added)})
    return variants


def _cell(trial: Trial, place: int) -> tuple[str, str]:
    """Return group and value of a concept."""
    group, _, value = trial.concepts.names[place].partition(":")
    return group, value
