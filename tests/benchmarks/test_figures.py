"""What benchmarks of audits count: a planted effect is found with its own sign only."""

import numpy as np

from benchmarks.discovery.figures import against_truth


def test_a_planted_effect_that_is_found_with_the_other_sign_is_not_found() -> None:
    effect, found = np.array([4.0, -4.0, 5.0, 0.1]), np.array([True, True, False, False])
    true, spurious = np.array([4.0, 4.0, 4.0, 0.0]), np.array([True, True, True, False])
    figures = against_truth(effect, (effect - 1, effect + 1), true, found, spurious, 0.5)
    assert figures["planted found"] == {"share": 1 / 3, "of": 3}
