"""What concepts do together: which pairs are worth drawing, and what they do beyond the sum of their parts."""

import itertools
import math
from collections.abc import Mapping, Sequence

from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.error_of_edit import Null
from diffexplain_fast.methods.diffex.phrases import said_by
from diffexplain_fast.methods.diffex.several import Measured, mean_of
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.results.effects import Effect, Interaction
from diffexplain_fast.stats.placebo import error_of_sum
from diffexplain_fast.taxonomy import Concept

Names = tuple[str, ...]
Found = Mapping[Names, Sequence[Trial]]
"""Names of concepts to their trials on one picture."""


def chosen_pairs(
    concepts: Sequence[Concept], effects: Sequence[Effect], width: int, wording: Wording
) -> list[tuple[Concept, Concept]]:
    """Return the pairs of concepts that are worth drawing, of which neither replaces the other; see ``said_by``.

    All of them where there are at most width^2. Otherwise those of a concept among the ``width`` strongest with any
    other one, the largest sum of sizes first: a partner is never dropped for doing nothing alone. Concepts without any
    verified edit have no verified interaction, so they are left out if there are others; those that were only screened
    always are.

    Args:
        concepts: that were measured.
        effects: of them.
        width: of the beam, at least 1.
        wording: of the captions.
    """
    sizes = {effect.concept: abs(effect.effect) for effect in effects}
    edited = {effect.concept for effect in effects if not effect.screened}
    drawn = {effect.concept for effect in effects if effect.n} or edited
    known = [concept for concept in concepts if concept.name in drawn]
    said = {concept.name: said_by(concept, wording).keys() for concept in known}
    pairs = [(a, b) for a, b in itertools.combinations(known, 2) if not said[a.name] & said[b.name]]
    if len(pairs) > width**2:
        kept = {concept.name for concept in sorted(known, key=lambda c: -sizes[c.name])[:width]}
        pairs = [(a, b) for a, b in pairs if a.name in kept or b.name in kept]
        pairs.sort(key=lambda pair: -sizes[pair[0].name] - sizes[pair[1].name])
    return pairs[: width**2]


def interactions_of(found: Sequence[Found], nulls: Sequence[Null], same: Sequence[int] = ()) -> list[Interaction]:
    """Return the interaction of every pair that was drawn: effect of both, minus the effects of each.

    Args:
        found: trials of each picture.
        nulls: of each picture; the interval of a single picture is three of its errors, added as independent ones are.
        same: of each picture the first one that is equal to it; () where no two are equal.
    """
    values: dict[Names, list[tuple[Measured, bool]]] = {}
    for i, (trials, null) in enumerate(zip(found, nulls, strict=True)):
        for names, both in trials.items():
            singles = [trials.get((name,), ()) for name in names]
            if len(names) == 2 and both and all(singles):
                value = both[0].effect - sum(single[0].effect for single in singles)
                three = [one[0] for one in (both, *singles)]
                at = [(null.at(one.job.names, one.effect), one) for one in three]
                half = math.hypot(*(its.spread(one.editor, effect=one.effect) for its, one in at))
                own = [error for its, one in at if (error := its.error(one.editor, one.effect)) is not None]
                error = error_of_sum(own, shared=True) if len(own) == len(three) else None
                one = Measured(same[i] if same else i, value, value - half, value + half, error)
                values.setdefault(names, []).append((one, all(trial.verified for trial in three)))
    rows = []
    for (a, b), measured in values.items():
        verified, everything = [one for one, good in measured if good], [one for one, _ in measured]
        mean, of_all = mean_of(verified or everything), mean_of(everything)
        n = mean.pictures if verified else 0
        rows.append(Interaction(a, b, mean.value, mean.low, mean.high, n, of_all.value))
    return sorted(rows, key=lambda row: -abs(row.effect))
