"""Effects of pasted values: errors that hold where pictures and donors are shared."""

import sys

import numpy as np
import pytest

from diffexplain_fast.stats.clustered import check_clustered, clustered_effects
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


def test_the_freedom_is_that_of_the_fewer_clusters() -> None:
    pytest.importorskip("statsmodels")
    values, donors = drawn(np.random.default_rng(1))
    assert (clustered_effects(values, donors).freedom == DONORS - 1).all()
    with pytest.raises(ValueError, match="values: wanted"):
        clustered_effects(values[:1], donors[:1])


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(ImportError, match=r"diffexplain-fast\[photographs\]"):
        check_clustered()
