"""Limits as a user writes them."""

import pytest

from diffexplain_fast.runs.spending import Limit, read_limit


def test_rows_and_times_are_read() -> None:
    assert read_limit(None) == Limit()
    assert read_limit("2000 rows") == read_limit(2000) == Limit(rows=2000)
    assert read_limit("2000") == read_limit(" 2000 ") == Limit(rows=2000)  # as a command line gives the number
    assert read_limit(" 40s ") == Limit(seconds=40)
    assert read_limit("1.5 min") == Limit(seconds=90) and read_limit("1 h") == Limit(seconds=3600)


@pytest.mark.parametrize(
    "budget", ["", "40.5", "0", "-3", "0 rows", 0, -3, "-3 s", "3 days", "rows", "1e9 rows", "1.5 rows"]
)
def test_other_values_are_refused(budget: object) -> None:
    with pytest.raises(ValueError, match=r"^budget: wanted rows of the denoiser as 2000 or"):
        read_limit(budget)


@pytest.mark.parametrize("budget", [2.5, True, [40]])
def test_other_kinds_are_refused(budget: object) -> None:
    with pytest.raises(TypeError, match=r"^budget: wanted rows of the denoiser as 2000 or"):
        read_limit(budget)
