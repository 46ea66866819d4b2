"""Effects of pasted values: errors that hold where pictures and donors are shared."""

import sys

import numpy as np
import pytest

from diffexplain_fast.stats.clustered import check_clustered, cluster_means, clustered_change, clustered_effects
from diffexplain_fast.stats.effects import against_median, interval
from diffexplain_fast.stats.regression import least_squares

TRUE = np.array([2.0, 0.0, 0.0, -0.3, 0.4])
PICTURES, DONORS = 60, 12


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return values [pictures, values, 1] with an effect of the picture and one of the donor, and the donors."""
    donors = np.stack([value * DONORS + rng.permutation(PICTURES) % DONORS for value in range(len(TRUE))], 1)
    of_donor = 0.5 * rng.standard_normal(len(TRUE) * DONORS)
    noise = 0.3 * rng.standard_normal((PICTURES, len(TRUE)))
    return (TRUE + 3 * rng.standard_normal((PICTURES, 1)) + of_donor[donors] + noise)[:, :, None], donors


def test_intervals_cover_the_truth_where_donors_are_shared() -> None:
    pytest.importorskip("statsmodels")
    rng = np.random.default_rng(0)
    truth, inside, naive, widths = TRUE - np.median(TRUE), [], [], []
    for _ in range(150):
        values, donors = drawn(rng)
        found = clustered_effects(values, donors)
        low, high = interval(found.estimate, found.error, found.freedom)
        inside.append((low[:, 0] <= truth) & (truth <= high[:, 0]))
        within = (values - values.mean(1, keepdims=True)).reshape(-1, 1)
        plain = against_median(least_squares(np.tile(np.arange(5), PICTURES)[:, None], (5,), within))
        low, high = interval(plain.estimate, plain.error, plain.freedom)
        naive.append((low[:, 0] <= truth) & (truth <= high[:, 0]))
        widths.append(found.error.mean())
    assert np.mean(inside) >= 0.92
    assert np.mean(naive) < np.mean(inside) - 0.05  # donors that are shared are what the clusters are for
    assert np.mean(widths) < 0.3  # the spread of the pictures themselves, 3, is taken away


def pasted(rng: np.random.Generator, pictures: int, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return values without effects, of donors that differ; every value has its own number of donors."""
    donors = np.stack([1000 * value + rng.permutation(pictures) % count for value, count in enumerate(counts)], 1)
    of_donor = 0.5 * rng.standard_normal(1000 * len(counts))
    noise = 0.3 * rng.standard_normal(donors.shape)
    return (rng.standard_normal((pictures, 1)) + of_donor[donors] + noise)[:, :, None], donors


@pytest.mark.parametrize("counts", [(40, 2), (40, 5), (10, 10), (40, 2, 2, 2)])
def test_few_donors_of_any_value_of_the_contrast_are_counted(counts: tuple[int, ...]) -> None:
    pytest.importorskip("statsmodels")
    rng, missed, squares, drawn_effects = np.random.default_rng(0), [], [], []
    for _ in range(200):
        found = clustered_effects(*pasted(rng, 40, counts))
        low, high = interval(found.estimate, found.error, found.freedom)
        missed.append((low[:, 0] > 0) | (high[:, 0] < 0))
        squares.append(found.error[:, 0] ** 2)
        drawn_effects.append(found.estimate[:, 0])
    assert np.mean(missed, 0).max() <= 0.09
    assert (np.sqrt(np.mean(squares, 0)) > 0.85 * np.std(drawn_effects, 0)).all()


def test_the_intervals_of_two_values_mirror_each_other() -> None:
    pytest.importorskip("statsmodels")
    found = clustered_effects(*pasted(np.random.default_rng(1), 40, (40, 2)))
    low, high = interval(found.estimate, found.error, found.freedom)
    assert low[0, 0] == pytest.approx(-high[1, 0]) and high[0, 0] == pytest.approx(-low[1, 0])


def test_the_freedom_is_that_of_the_donors_with_the_weights_of_their_values() -> None:
    pytest.importorskip("statsmodels")
    values, donors = pasted(np.random.default_rng(1), 40, (40, 2))
    most = (1 / 40 + 1 / 2) ** 2 / ((1 / 40) ** 2 / 39 + (1 / 2) ** 2)  # of donors that vary alike
    assert (clustered_effects(values, donors).freedom <= most + 1e-9).all()
    own = np.arange(80).reshape(40, 2)  # where no donor is shared, pictures are all there is
    assert clustered_effects(values, own).freedom == pytest.approx(np.full((2, 1), 39.0))
    values, donors = drawn(np.random.default_rng(1))
    freedom = clustered_effects(values, donors).freedom
    assert (freedom + 1e-9 >= DONORS - 1).all() and (freedom < PICTURES - 1).all()


def test_what_has_no_error_is_refused() -> None:
    pytest.importorskip("statsmodels")
    values, donors = drawn(np.random.default_rng(1))
    with pytest.raises(ValueError, match="values: wanted"):
        clustered_effects(values[:1], donors[:1])
    donors[:, 2] = 24
    with pytest.raises(ValueError, match="donors: wanted at least two of every value"):
        clustered_effects(values, donors)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(ImportError, match=r"diffexplain-fast\[photographs\]"):
        check_clustered()


def test_a_change_of_a_share_has_an_interval_where_all_or_none_change() -> None:
    none, every, alone = np.zeros(24, dtype=bool), np.ones(24, dtype=bool), np.arange(24)
    # p = 25 / 26 and q = 1 / 26 of the source's formula, with z = 1.96.
    low, high = clustered_change(every, none, alone)
    assert (low, high) == (pytest.approx(24 / 26 - 1.96 * np.sqrt((1 - (24 / 26) ** 2) / 26), abs=1e-4), 1)
    assert clustered_change(none, every, alone) == pytest.approx((-1, -low))
    low, high = clustered_change(every, every, alone)
    assert high == -low == pytest.approx(1.96 * np.sqrt(2) / 26, abs=1e-4)
    assert clustered_change(every, none, alone // 6)[0] < clustered_change(every, none, alone)[0] - 0.2
    with pytest.raises(ValueError, match="after: wanted at least 1 trial, got 0"):
        clustered_change(none[:0], none[:0], alone[:0])


@pytest.mark.parametrize(("up", "down"), [(0.02, 0.0), (0.3, 0.1), (0.95, 0.0), (0.1, 0.1)])
def test_intervals_of_changes_cover_the_truth_in_clusters(up: float, down: float) -> None:
    rng, inside, clusters = np.random.default_rng(0), [], np.arange(90) // 3
    for _ in range(400):
        drawn = rng.random(30)[clusters]  # pictures of one photograph mostly change alike
        drawn = np.where(rng.random(90) < 0.2, rng.random(90), drawn)
        after, before = drawn < up, (drawn >= up) & (drawn < up + down)
        low, high = clustered_change(after, before, clusters)
        inside.append(low <= up - down <= high)
        assert -1 <= low <= after.mean() - before.mean() <= high <= 1
    assert np.mean(inside) >= 0.93


def test_weighted_changes_are_those_of_pictures_drawn_by_the_weights() -> None:
    rng, inside, plain = np.random.default_rng(0), [], []
    weights = np.repeat([1.8, 0.2], 60)  # half of the pictures stand for nine in ten of the user's
    truth = 0.9 * 1.0 + 0.1 * -1.0
    for _ in range(400):
        change = np.repeat([1.0, -1.0], 60)[:, None] + rng.standard_normal((120, 1))
        for given, kept in ((weights, inside), (None, plain)):
            one = cluster_means([change], np.arange(120), given)
            low, high = interval(one.estimate, one.error, one.freedom)
            kept.append(low[0, 0] <= truth <= high[0, 0])
    assert 0.93 <= np.mean(inside) <= 0.98 and np.mean(plain) < 0.1
    assert one.estimate[0, 0] == pytest.approx(change.mean())


def test_equal_weights_change_nothing() -> None:
    rng, alone, weights = np.random.default_rng(0), np.arange(30), np.full(30, 0.7)
    change = rng.standard_normal((30, 2))
    one, two = (cluster_means([change], alone, given) for given in (None, weights))
    for name in ("estimate", "error", "freedom"):
        assert getattr(one, name) == pytest.approx(getattr(two, name))
    after, before = (rng.random(30) < share for share in (0.6, 0.3))
    assert clustered_change(after, before, alone, 0.95, weights) == pytest.approx(
        clustered_change(after, before, alone)
    )
    none = np.where(alone < 10, 0.0, 1.0)  # pictures without weight are as if they were not there
    some = cluster_means([change], alone, none), cluster_means([change[10:]], alone[10:])
    assert some[0].error == pytest.approx(some[1].error)
    part = clustered_change(after[10:], before[10:], alone[10:])
    assert clustered_change(after, before, alone, 0.95, none) == pytest.approx(part)


@pytest.mark.parametrize(("up", "down"), [(0.05, 0.0), (0.3, 0.1), (0.95, 0.0)])
def test_intervals_of_weighted_changes_cover_the_truth(up: float, down: float) -> None:
    rng, inside, weights = np.random.default_rng(0), [], np.repeat([1.6, 0.4], 60)
    truth = 0.8 * (up - down)  # what has little weight never changes
    for _ in range(400):
        drawn = np.where(np.arange(120) < 60, rng.random(120), 2.0)
        after, before = drawn < up, (drawn >= up) & (drawn < up + down)
        low, high = clustered_change(after, before, np.arange(120), 0.95, weights)
        inside.append(low <= truth <= high)
    assert np.mean(inside) >= 0.93
