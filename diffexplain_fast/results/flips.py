"""Which concepts change decisions, one after the other, as StylEx tells it."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from diffexplain_fast.results.effects import Edit, Flip
from diffexplain_fast.stats.intervals import wilson_interval


def flips_of(
    found: Mapping[int, Sequence[Edit]], top: int, recognised: int | None = None, same: Sequence[int] = ()
) -> list[Flip]:
    """Return the concepts in the order in which they change the most decisions that none before has changed.

    A concept changes the decision on a picture where it does so in more than half of its verified edits, of those that
    can tell; see ``Edit.flipped``. Of concepts
    that change equally many, the one with the larger mean change of probability comes first. Equal pictures are one,
    with the edits of all.

    Args:
        found: edited pictures by number of the picture.
        top: how many concepts at most.
        recognised: pictures that the classifier recognises, equal ones counted once; None where nobody has kept it:
            those of them with an edit.
        same: of each picture the first one that is equal to it; () where no two are equal.

    Source: O. Lang et al., "Explaining in Style: Training a GAN to explain a classifier in StyleSpace" (ICCV 2021),
    algorithm 1 (AttFind) and table 3; of edits that another model has verified.
    """
    changed: dict[str, dict[int, bool]] = {}
    points: dict[str, list[float]] = {}
    merged: dict[int, list[Edit]] = {}
    for number, some in found.items():
        merged.setdefault(same[number] if same else number, []).extend(some)
    with_edits = sum(any(edit.flipped is not None for edit in edits) for edits in merged.values())
    whole = with_edits if recognised is None else recognised
    for image, edits in merged.items():
        single: dict[str, list[Edit]] = {}
        for edit in edits:
            if len(edit.concepts) == 1 and edit.verified and None not in (edit.flipped, edit.points):
                single.setdefault(edit.concepts[0], []).append(edit)
        for concept, of_it in single.items():
            changed.setdefault(concept, {})[image] = 2 * sum(bool(edit.flipped) for edit in of_it) > len(of_it)
            points.setdefault(concept, []).append(fmean(edit.points for edit in of_it if edit.points is not None))
    table: list[Flip] = []
    done: set[int] = set()
    while changed and len(table) < top:
        new = {concept: {i for i, flip in own.items() if flip} - done for concept, own in changed.items()}
        concept = max(new, key=lambda name: (len(new[name]), abs(fmean(points[name])), name))
        own = changed.pop(concept)
        done |= new[concept]
        low, high = wilson_interval(sum(own.values()), len(own))
        share = fmean(own.values())
        table.append(Flip(concept, fmean(points[concept]), share, low, high, len(own), len(done) / whole))
    return table
