"""The generator's error of a group: it grows with large effects, and small ones say nothing about that."""

import numpy as np
import pytest

from diffexplain_fast.methods.discovery.generator import fitted_errors

CONSTANT, GROWTH = 0.1, 0.2


def _cells(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise = np.full(len(truth), 0.05)
    spread = np.sqrt(noise**2 + CONSTANT**2 + (GROWTH * truth) ** 2)
    return truth + spread * rng.standard_normal(len(truth)), truth, noise


@pytest.mark.parametrize("seed", range(4))
def test_a_group_of_small_effects_grows_as_all_groups_together(seed: int) -> None:
    rng = np.random.default_rng([9, seed])
    cells = {
        "background": _cells(rng.normal(0, 0.15, 120), seed),
        "object": _cells(rng.normal(0, 4, 160), seed + 100),
    }
    errors = fitted_errors(cells)
    assert errors["object"].b == pytest.approx(GROWTH, abs=0.05)
    # Fitted to small effects alone the growth was .5 and more, so that an effect of 6 had an interval of +-6.
    assert errors["background"].b == pytest.approx(GROWTH, abs=0.05)
    assert errors["background"].a == pytest.approx(CONSTANT, abs=0.03)


def test_nothing_is_fitted_to_nothing() -> None:
    assert fitted_errors({}) == {}
