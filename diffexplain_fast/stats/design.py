"""Which caption names which values: balanced arrays that grow in blocks."""

from collections.abc import Sequence

import numpy as np

from diffexplain_fast.errors import wrong_value

LEFT_OUT = -1
"""The value of a group that a caption does not name."""
BLOCK = 96
"""Captions of a block: a design grows by whole blocks, and each block is balanced on its own."""
_MOST_EXCHANGES, _BAGS_TRIED = 4000, 32
_STARTS, _CLOSE = 6, 1.3
"""Random starts of a block, and the deviation of a pair's count, in captions, at which no further start is tried."""


def balanced_design(
    levels: Sequence[int], count: int, seed: int, left_out_share: float | None = None, first: int = 0
) -> np.ndarray:
    """Return captions in which every value, and every pair of values of two groups, is named equally often.

    Every block of 96 captions begins with each group's values in equal numbers and in random order. Two captions then
    exchange their value of a group as long as an exchange makes the squared deviations of the pairs' counts from equal
    counts smaller, in the block and in all captions so far. Captions lie in such an order inside a block that its
    first ones are balanced too. The captions of a smaller count are therefore the first of a larger one.

    Args:
        levels: number of values of every group, at least 1 each; a value "nothing" is an ordinary value.
        count: number of captions, at least 0.
        seed: 0 or above; the same seed gives the same captions.
        left_out_share: share of the captions that leave a group out, 0 or above; at most 1 / (k + 1) is taken for a
            group of k values, and None takes just that.
        first: index of the first caption that is returned, 0 or above.

    Returns:
        int64 [count, groups], from 0 to the group's number of values - 1, ``LEFT_OUT`` where the group is left out.

    Raises:
        ValueError: an argument out of its range.

    Source: nearly orthogonal arrays by exchange, H. Xu, "An algorithm for constructing orthogonal and
    nearly-orthogonal arrays with mixed levels and small runs", Technometrics 44 (2002).
    """
    if not levels or min(levels) < 1:
        raise wrong_value("levels", "at least one group of at least 1 value each", list(levels))
    for name, number in (("count", count), ("seed", seed), ("first", first)):
        if number < 0:
            raise wrong_value(name, "0 or above", number)
    if left_out_share is not None and not 0 <= left_out_share <= 0.5:
        raise wrong_value("left_out_share", "0 to 0.5", left_out_share)
    shares = [_shares(k, left_out_share) for k in levels]
    target = np.concatenate(shares)
    past = np.zeros((0, len(target)))
    blocks = [np.zeros((0, len(levels)), dtype=np.int64)]
    for number in range(-(-(first + count) // BLOCK)):
        block = _block(shares, target, past, np.random.default_rng([seed, number]))
        past = np.concatenate([past, _indicators(block, levels)])
        blocks.append(block)
    design = np.concatenate(blocks)[first : first + count]
    return np.where(design == np.array(levels), LEFT_OUT, design)


def _shares(values: int, left_out_share: float | None) -> np.ndarray:
    """Return the share of captions of every value of a group, and, last, of those that leave the group out."""
    out = 1 / (values + 1) if left_out_share is None else min(left_out_share, 1 / (values + 1))
    return np.array([(1 - out) / values] * values + [out])


def _indicators(block: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return float [captions, all values]: 1 where the caption has the value; being left out is the last value."""
    parts = [np.arange(k + 1) == block[:, [group]] for group, k in enumerate(levels)]
    return np.concatenate(parts, 1).astype(np.float64)


def _block(
    shares: Sequence[np.ndarray], target: np.ndarray, past: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return one block as values, where being left out is the last value of a group."""
    levels = [len(share) - 1 for share in shares]
    edges = np.cumsum([0, *(k + 1 for k in levels)])
    expected = np.outer(target, target)
    before = past.T @ past - len(past) * expected
    counts = [
        _counts(share, past[:, edges[group] : edges[group + 1]].sum(0), len(past), random)
        for group, share in enumerate(shares)
    ]
    best, least = np.zeros((0, len(shares)), dtype=np.int64), np.inf
    for _ in range(_STARTS):
        columns = [random.permutation(np.repeat(np.arange(len(count)), count)) for count in counts]
        block = np.stack(columns, 1)
        _exchange(block, levels, edges, before, expected)
        inside = _indicators(block, levels)
        apart = inside.T @ inside - BLOCK * expected
        largest = max(_largest(apart, edges), _largest(apart + before, edges))
        if largest < least:
            best, least = block, largest
        if least <= _CLOSE:
            break
    return best[_order(_indicators(best, levels), target, past, random)]


def _largest(deviation: np.ndarray, edges: np.ndarray) -> float:
    """Return the largest deviation of a count of two values of two groups; being left out is not a value."""
    group = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    value = ~np.isin(np.arange(len(deviation)), edges[1:] - 1)
    apart = (group[:, None] != group[None, :]) & value[:, None] & value[None, :]
    return float(np.abs(deviation[apart]).max(initial=0))


def _counts(share: np.ndarray, so_far: np.ndarray, captions: int, random: np.random.Generator) -> np.ndarray:
    """Return how often a block has each value: equally often so far and in the block, the values up to 1 apart."""
    wanted = share * BLOCK
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    # The group is never left out more often than its share, so that only values get what is left over.
    behind = (share * (captions + BLOCK) - so_far - counts)[:-1] + random.random(len(share) - 1) * 1e-6
    counts[np.argsort(-behind)[: BLOCK - counts.sum()]] += 1
    return counts


def _exchange(
    block: np.ndarray, levels: Sequence[int], edges: np.ndarray, before: np.ndarray, expected: np.ndarray
) -> None:
    """Exchange values of a group between two captions, in place, while that balances the pairs better."""
    wide = block + edges[:-1]
    inside = _indicators(block, levels)
    deviation = 2 * (inside.T @ inside - BLOCK * expected) + before
    apart = [_apart(column) for column in wide.T]
    stuck, group = 0, 0
    for _ in range(_MOST_EXCHANGES):
        if stuck == len(levels):
            break
        gain, i, j = _best_exchange(wide, group, deviation, apart)
        if gain > -1e-9:
            stuck, group = stuck + 1, (group + 1) % len(levels)
            continue
        stuck = 0
        for row, old, new in ((i, wide[i, group], wide[j, group]), (j, wide[j, group], wide[i, group])):
            others = np.delete(wide[row], group)
            deviation[old, others] -= 2
            deviation[others, old] -= 2
            deviation[new, others] += 2
            deviation[others, new] += 2
        wide[[i, j], group] = wide[[j, i], group]
        apart[group] = _apart(wide[:, group])
    block[:] = wide - edges[:-1]


def _apart(values: np.ndarray) -> np.ndarray:
    """Return float [captions, captions]: 1 where two captions have different values."""
    values = values.copy()  # comparing a column of a larger array takes several times as long
    return (values[:, None] != values).astype(np.float64)


def _best_exchange(
    wide: np.ndarray, group: int, deviation: np.ndarray, apart: Sequence[np.ndarray]
) -> tuple[float, int, int]:
    """Return the change of the squared deviations by the best exchange of a group's value, and its two captions.

    ``deviation`` is the sum of the deviation in the block and in all captions, a symmetric matrix; both change by the
    same amount d, and the squares of the two change together by 2 d deviation + 2 d^2. Half of the change is summed in
    place, because this is most of the work of a design. ``apart`` says of every group which captions differ in it.
    """
    change, rows = np.zeros((len(wide), len(wide))), deviation[:, wide[:, group]]
    for other, differ in enumerate(apart):
        if other == group:
            continue
        costs = rows[wide[:, other]]
        here, half = costs.diagonal().copy(), costs.T.copy()
        half += costs
        half -= here[:, None]
        half -= here
        half += 4
        half *= differ
        change += half
    change[apart[group] == 0] = 0
    i, j = divmod(int(change.argmin()), len(wide))
    return 2 * float(change[i, j]), i, j


def _order(inside: np.ndarray, target: np.ndarray, past: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return an order of the captions in which the first ones are balanced: values first, pairs less."""
    rows = random.permutation(len(inside))
    left, order = inside[rows], []
    sums = past.sum(0) - len(past) * target
    pairs = past.T @ past - len(past) * np.outer(target, target)
    free = np.ones(len(rows), dtype=bool)
    for _ in rows:
        costs = 8 * left @ (sums - target) + np.einsum("ia,ab,ib->i", left, pairs, left, optimize=True)
        chosen = int(np.where(free, costs, np.inf).argmin())
        free[chosen] = False
        order.append(rows[chosen])
        sums += left[chosen] - target
        pairs += np.outer(left[chosen], left[chosen]) - np.outer(target, target)
    return np.array(order)


def bag_design(words: int, size: int, count: int, seed: int) -> np.ndarray:
    """Return bags of words for captions without a grammar: every word equally often, no pair of words often.

    Random orders of all words, one after another, are cut into bags; of several such runs the one whose pairs are
    counted most equally is taken. A bag is a function of seed and index, so that fewer bags are the first of more.

    Args:
        words: number of words, at least 1.
        size: words of a bag, 1 to ``words``.
        count: number of bags, at least 0.
        seed: 0 or above.

    Returns:
        bool [count, words].

    Raises:
        ValueError: an argument out of its range.
    """
    if not 1 <= size <= words:
        raise wrong_value("size", f"1 to {words} words", size)
    if count < 0 or seed < 0:
        raise wrong_value("count and seed", "0 or above", (count, seed))
    bags, pairs, number = np.zeros((0, words), dtype=bool), np.zeros((words, words)), 0
    while len(bags) < count:
        random = np.random.default_rng([seed, number])
        runs = [_bags(words, size, random) for _ in range(_BAGS_TRIED)]
        counts = [pairs + run.T.astype(np.float64) @ run for run in runs]
        best = min(range(len(runs)), key=lambda run: float((np.triu(counts[run], 1) ** 2).sum()))
        bags, pairs, number = np.concatenate([bags, runs[best]]), counts[best], number + 1
    return bags[:count]


def _bags(words: int, size: int, random: np.random.Generator) -> np.ndarray:
    """Return ``words`` bags that name every word ``size`` times: rows of ``size`` shifted random orders."""
    bags = np.zeros((words, words), dtype=bool)
    order = random.permutation(words)
    steps = random.choice(words, size, replace=False)
    for step in steps:
        bags[np.arange(words), order[(np.arange(words) + step) % words]] = True
    return bags[random.permutation(words)]
