"""Counterfactuals: the smallest set of verified changes after which the decision leaves the target."""

import itertools
from collections.abc import Sequence, Set

from torch import Tensor

from diffexplain_fast.editing.pictures import as_image
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.results.effects import Counterfactual

_LARGEST = 3
"""Changes of one set."""


def counterfactual_of(
    lab: Lab, scene: Scene, trials: Sequence[Trial], width: int
) -> tuple[Counterfactual | None, list[Trial]]:
    """Return the smallest set of changes that flips a picture, and the trials that were run to find it.

    Single changes and pairs that were measured are looked at first. Then sets of two and three are drawn, those first
    whose single effects add up to the largest fall. Of several sets of one size the one wins whose picture changes the
    least, by the mean absolute change of a pixel's colours, however few of its pixels change. Where no set flips, the
    one that came nearest is returned, with ``flipped`` False. A set counts only where the picture through the
    autoencoder inside its region, its baseline, is still recognised: otherwise nobody can tell that the set did it.

    Args:
        lab: draws, checks and measures.
        scene: the picture.
        trials: of single changes and of pairs.
        width: sets of each size that are drawn at most.

    Returns:
        None where the classifier does not see the target in the picture, or in the baseline of no verified set.
    """
    seen = lab.answers.ask(scene.pixels)
    verified = [trial for trial in trials if trial.verified]
    if not bool(seen.hit) or not verified:
        return None, []
    drawn: list[Trial] = []
    for size in range(1, _LARGEST + 1):
        if size > 1:
            known = {frozenset(trial.job.names) for trial in (*trials, *drawn)}
            new = lab.run(scene, _sets(lab, scene, verified, known, size, width), tries=2)
            drawn += new
            verified += [trial for trial in new if trial.verified]
        flips = [trial for trial in verified if len(trial.job.concepts) == size and trial.flipped]
        if flips:
            best = min(flips, key=lambda trial: _distance(scene, trial.pixels))
            break
    else:
        told = [trial for trial in verified if trial.hit_before]
        if not told:
            return None, drawn
        best = min(told, key=lambda trial: trial.probability)
    return (
        Counterfactual(
            as_image(best.pixels),
            best.job.names,
            seen.names[0],
            best.name,
            bool(best.flipped),
            best.probability_before,
            best.probability,
        ),
        drawn,
    )


def _sets(
    lab: Lab, scene: Scene, verified: Sequence[Trial], known: Set[frozenset[str]], size: int, width: int
) -> list[Job]:
    """Return the sets of single changes that are drawn next: the largest predicted falls that nobody has drawn.

    A set that was drawn and not verified is no flip, and would be drawn the same again. Within a set concepts keep the
    order of the taxonomy, as in pairs, so that one set has one name.
    """
    singles = {trial.job.concepts[0]: trial.effect for trial in verified if len(trial.job.concepts) == 1}
    falling = sorted((concept for concept in singles if singles[concept] < 0), key=lambda c: singles[c])[: 2 * width]
    sets = sorted(itertools.combinations(falling, size), key=lambda some: sum(singles[concept] for concept in some))
    ordered = (tuple(sorted(some, key=list(singles).index)) for some in sets)
    jobs = (lab.jobs.of(scene, some) for some in ordered if frozenset(c.name for c in some) not in known)
    return list(itertools.islice((job for job in jobs if job is not None), width))


def _distance(scene: Scene, pixels: Tensor) -> float:
    """Return the mean absolute change of a picture's numbers, from 0 to 1."""
    return float((pixels - scene.pixels[0]).abs().mean())
