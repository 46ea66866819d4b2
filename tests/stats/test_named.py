"""How much of an effect concepts explain: shares that are known, their intervals, and what nobody sees."""

import numpy as np
import pytest

from diffexplain_fast.stats.named import named_share


def scenes(named: float, unnamed: float, seed: int, count: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return effects of scenes, and whether the one concept came with them; its effect is 4."""
    rng = np.random.default_rng(seed)
    comes = (rng.random(count) < named / 4).astype(np.float64)
    return 4 * comes + unnamed + 0.8 * rng.standard_normal(count), comes[:, None]


@pytest.mark.parametrize(("named", "unnamed"), [(3.0, 0.0), (2.0, 2.0), (1.2, 4.0)])
def test_intervals_hold_effect_rest_and_share(named: float, unnamed: float) -> None:
    inside = np.zeros(3)
    for seed in range(200):
        rng = np.random.default_rng([seed, 1])
        effects, changes = scenes(named, unnamed, seed)
        found = named_share(effects, changes, np.array([4 + 0.3 * rng.standard_normal()]), np.array([0.3]))
        truths = (named + unnamed, unnamed, named / (named + unnamed))
        inside += [part.low <= true <= part.high for part, true in zip(found, truths, strict=True)]
    assert (inside / 200 >= 0.92).all()


def test_what_nobody_sees_is_taken_off_the_low_end() -> None:
    effects, changes = scenes(0.0, 4.0, 0)
    plain = named_share(effects, changes, np.array([4.0]), np.array([0.3]))
    blind = named_share(effects, changes, np.array([4.0]), np.array([0.3]), slack=2.5)
    assert blind.unexplained.low == pytest.approx(plain.unexplained.low - 2.5)
    assert blind.unexplained.high == plain.unexplained.high and blind.effect == plain.effect


def test_a_share_of_nothing_is_unbounded_and_few_scenes_are_refused() -> None:
    effects, changes = scenes(0.0, 0.0, 1)
    assert np.isinf(named_share(effects, changes, np.array([4.0]), np.array([0.3])).share.high)
    with pytest.raises(ValueError, match="effects: wanted at least 6 scenes, got 5"):
        named_share(effects[:5], changes[:5], np.array([4.0]), np.array([0.3]))
