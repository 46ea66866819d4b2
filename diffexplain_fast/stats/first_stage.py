"""What captions let expect that pictures show, and what is known of an outcome from showing something else."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import columns, indicators
from diffexplain_fast.stats.words import Words

_ROUNDS = 100
_TINY = 1e-12
_LEAST_FREE = 0.05
_ROUNDED = 1e-6
"""Share of what is shown below which more than expected is rounding."""


class Stage(NamedTuple):
    """What captions let expect, for every group; None for a group that is told by what is asked.

    Attributes:
        expected: float [pictures, values]: what pictures with the same word of this group show on average.
        more: float [pictures, values]: what is shown, less what is expected.
        added: float [pictures, outcomes], over all groups: what a picture's outcome owes to that, as all other pictures
            tell it.
    """

    expected: list[np.ndarray | None]
    more: list[np.ndarray | None]
    added: np.ndarray


def first_stage(
    words: Words, shown: Sequence[np.ndarray | None], outcomes: np.ndarray, weights: np.ndarray | None = None
) -> Stage:
    """Return what captions let expect.

    A count of every word alone (the usual first stage) follows the pictures' own chance, and the eye's; so effects of
    few pictures with a poor eye lean towards what that chance says ("many weak instruments"). Here the counts are
    shrunk towards the simplest story of a generator that errs: where a word is not obeyed, the picture shows any value,
    as often as the generator's habit has it (quasi-independence), and every word has a share of its own that is
    obeyed. How far they are shrunk is told by how well the story fits (method of moments, as James and Stein do it).

    An outcome then holds a part that is not the word's doing: more or less was shown than expected. Within the captions
    of one word it is known how outcomes follow what is shown; that is taken off (a control variate). Where the
    generator follows the story, or the pictures are many, this changes no effect on average, also where something
    hidden moves both what is shown and the outcome. An eye that errs little leaves little noise.

    Args:
        words: see ``showing``.
        shown: see there.
        outcomes: see there.
        weights: see there.

    Raises:
        ValueError: arguments of the wrong shape, or not finite.

    Source: J. Bound, D. A. Jaeger and R. M. Baker, "Problems with instrumental variables estimation when the
    correlation between the instruments and the endogenous explanatory variable is weak", JASA 90 (1995); L. A. Goodman,
    "The analysis of cross-classified data: independence, quasi-independence, and interactions", JASA 63 (1968);
    W. James and C. Stein, "Estimation with quadratic loss", Berkeley Symposium 4 (1961).
    """
    outcomes = _checked(words, shown, outcomes)
    share = np.ones(len(outcomes)) if weights is None else weights
    expected = [None if one is None else _expected(words.column(group), one, share) for group, one in enumerate(shown)]
    more = _more(shown, expected)
    some, z = _together(more, len(outcomes)), columns(words.asked, words.levels)
    return Stage(expected, more, _added(some, some, z, outcomes, np.sqrt(share)[:, None]))


def among(
    words: Words,
    shown: Sequence[np.ndarray | None],
    outcomes: np.ndarray,
    stage: Stage,
    rows: np.ndarray,
    weights: np.ndarray | None = None,
) -> Stage:
    """Return what captions let expect, where words may be obeyed better or worse in some of the pictures.

    Few pictures tell little of that. What a word shows in them is that of all pictures, moved towards their own means
    as far as these differ by more than chance (method of moments, as in ``first_stage``).

    Args:
        words: see ``first_stage``.
        shown: see there.
        outcomes: see there.
        stage: from ``first_stage``, of all pictures.
        rows: bool [pictures]: some of them.
        weights: see ``first_stage``.

    Returns:
        The same with ``expected``, ``more`` and ``added`` for these rows; the others expect what they did.
    """
    share, expected = np.ones(len(outcomes)) if weights is None else weights, [*stage.expected]
    for group, (told, one) in enumerate(zip(stage.expected, stage.more, strict=True)):
        if told is not None and one is not None:
            expected[group] = moved = told.copy()
            moved[rows] += _moved(words.column(group).part(rows), one[rows], share[rows])
    more, z = _more(shown, expected), columns(words.asked, words.levels)
    old, new = (_together(each, len(outcomes)) for each in (stage.more, more))
    return Stage(expected, more, _added(old, new, z, outcomes, np.sqrt(share)[:, None]))


def _more(shown: Sequence[np.ndarray | None], expected: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    pairs = zip(shown, expected, strict=True)
    return [None if one is None or told is None else _less(one, told) for one, told in pairs]


def _together(more: Sequence[np.ndarray | None], pictures: int) -> np.ndarray:
    """Return what is shown beyond what is expected, of all groups, float [pictures, values]."""
    return np.concatenate([np.zeros((pictures, 0)), *(one for one in more if one is not None)], 1)


def _checked(words: Words, shown: Sequence[np.ndarray | None], outcomes: np.ndarray) -> np.ndarray:
    """Return the outcomes as float64; refuse what cannot be used."""
    outcomes, pictures = np.asarray(outcomes, dtype=np.float64), len(words.asked)
    if outcomes.ndim != 2 or len(outcomes) != pictures or not np.isfinite(outcomes).all():
        raise wrong_value("outcomes", f"finite numbers [{pictures}, outcomes]", list(outcomes.shape))
    for group, (values, one) in enumerate(zip(words.cells, shown, strict=True)):
        if one is not None and (one.shape != (pictures, values) or not np.isfinite(one).all()):
            raise wrong_value(f"shown[{group}]", f"finite numbers [{pictures}, {values}]", one.shape)
    return outcomes


def _less(shown: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the difference, exactly 0 where it is rounding, which a regression would take for a treatment."""
    more = shown - expected
    return np.where(np.abs(more) > _ROUNDED, more, 0.0)


def _added(learnt: np.ndarray, more: np.ndarray, z: np.ndarray, outcomes: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Return ``more`` times the coefficients of ``learnt`` within the captions of one word, of all other pictures.

    So they cannot follow the picture's own chance.
    """
    outcomes, z = outcomes * root, z * root
    words = np.linalg.pinv(z, rcond=1e-9)  # [columns, pictures]
    within, outcomes = (one - z @ (words @ one) for one in (learnt * root, outcomes))
    left, sizes, right = np.linalg.svd(within, full_matrices=False)
    large = sizes > _ROUNDED * np.linalg.norm(learnt * root)  # none where the words tell every picture apart
    inverse = (right[large].T / sizes[large]) @ left[:, large].T  # [values, pictures]
    known = inverse @ outcomes
    # Leaving a picture out changes the averages of its words too, so its leverage is that in both regressions.
    free = np.maximum(1 - (z * words.T).sum(1) - (within * inverse.T).sum(1), _LEAST_FREE)
    own = (more * inverse.T).sum(1) / free
    return np.asarray(more @ known - own[:, None] * (outcomes - within @ known))


def _expected(words: Words, shown: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return what pictures of each word show, float [pictures, values]."""
    named, means, noise = _means(words, shown, share)
    here = np.flatnonzero((named.sum(0) > 0)[:-1])
    told, free = quasi_independent(means[here], np.array(words.values[0])[here])
    if free > 0:
        chance = float(noise[here].sum()) * free / (len(here) * (shown.shape[1] - 1))
        means[here] = told + _beyond(means[here] - told, chance)
    return np.asarray(named @ means)


def _moved(words: Words, more: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return by how much more pictures of each word show than is expected, beyond chance, float [pictures, values]."""
    named, means, noise = _means(words, more, share)
    return np.asarray(named @ _beyond(means, float(noise.sum())))


def _means(words: Words, shown: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which word a picture has, the last for none, the mean of every word, and the variance of that by chance.

    They are float [pictures, words], and twice [words, values].
    """
    asked = words.asked[:, 0]
    named = np.concatenate([indicators(words.asked, words.levels), (asked < 0)[:, None]], 1)
    count = np.maximum(share @ named, _TINY)
    means = (named * share[:, None]).T @ shown / count[:, None]
    fitted = int((named.sum(0) > 0).sum())
    spread = share @ (shown - named @ means) ** 2 / (share.sum() * max(1 - fitted / len(shown), _LEAST_FREE))
    return named, means, (share**2 @ named / count**2)[:, None] * spread


def _beyond(apart: np.ndarray, chance: float) -> np.ndarray:
    """Return numbers, shrunk by the share of their squares that is chance."""
    return max(0.0, 1 - chance / max(float((apart**2).sum()), _TINY)) * apart


def quasi_independent(shares: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return shares as near as possible (least squares) that are quasi-independent.

    Every word's value is shown in some share of its pictures of its own, and what the others show follows one
    distribution.

    Args:
        shares: float [words, values]: how often pictures of a word show a value; every row adds up to one.
        values: int [words]: the value that every word names.

    Returns:
        The shares, and the degrees of freedom that they leave: none or less where any shares are quasi-independent.
    """
    count, among = shares.shape
    own = np.arange(count), values
    others = np.ones_like(shares)
    others[own] = 0
    habit = np.full(among, 1 / among)
    strays = np.ones(count)
    for _ in range(_ROUNDS):
        wide = others * habit
        strays = np.maximum((shares * wide).sum(1) / np.maximum((wide**2).sum(1), _TINY), 0)
        long = others * strays[:, None]
        habit = np.maximum((shares * long).sum(0) / np.maximum((long**2).sum(0), _TINY), 0)
        strays, habit = strays * habit.sum(), habit / max(habit.sum(), _TINY)
    told = others * strays[:, None] * habit
    told[own] = shares.sum(1) - told.sum(1)
    return told, count * (among - 1) - (count + among - 1)
