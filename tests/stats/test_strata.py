"""Which targets share the pictures with and without their own object."""

import numpy as np

from diffexplain_fast.stats.strata import Strata, _alike


def test_targets_share_strata_only_where_pictures_and_column_are_the_same() -> None:
    own, others = np.array([True, False, False]), np.array([False, True, True])
    strata = [Strata(own, others, 300), None, Strata(own, ~own, 300), Strata(own, others, 2), Strata(others, own, 300)]
    assert [targets for _, targets in _alike(strata)] == [[0, 2], [3], [4]]
