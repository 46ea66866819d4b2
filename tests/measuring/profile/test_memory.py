"""Every byte has one owner at every moment."""

from diffexplain_fast.measuring.profile.counting import (
    HELD,
    KEPT,
    TRANSIENT,
    WEIGHTS,
    Life,
    bytes_by_owner,
    most_bytes,
    timeline,
)


def test_saved_bytes_are_kept_and_those_that_outlive_the_forward_are_held() -> None:
    lives = [
        Life(1, born=0, died=2),
        Life(10, born=1, died=5, saved=[(2, 4)]),  # made forward, saved, free at last in the backward
        Life(100, born=1, died=4),
        Life(1000, born=3, died=None, saved=[(4, None)]),  # of the backward
        Life(10000, born=2, died=3),
    ]
    found = bytes_by_owner(lives, operations=6, backward=3)
    assert found[KEPT] == [0, 0, 10, 10, 1000, 1000]
    assert found[HELD] == [0, 110, 100, 100, 10, 0]
    assert found[TRANSIENT] == [1, 1, 10000, 1000, 0, 0]


def test_the_most_at_once_is_not_the_sum_of_the_most() -> None:
    assert most_bytes({KEPT: [5, 1], HELD: [0, 0], TRANSIENT: [0, 3]}) == 5 and most_bytes({KEPT: []}) == 0


def test_a_tensor_saved_twice_is_kept_twice() -> None:
    found = bytes_by_owner([Life(8, born=0, died=None, saved=[(1, 2), (3, 3), (4, 5)])], operations=6, backward=9)
    assert found[KEPT] == [0, 8, 0, 0, 8, 0] and found[TRANSIENT] == [8, 0, 8, 8, 0, 8]


def test_a_moment_shows_the_most_of_its_interval() -> None:
    alive = {KEPT: [0, 5, 1, 0], HELD: [0, 0, 0, 0], TRANSIENT: [1, 1, 9, 2]}
    found = timeline(alive, 3, [0.0, 0.0001, 0.0002, 2.0], 4.0)
    assert found.moments == [0.0, 2.0]
    assert found.owners == {WEIGHTS: [3, 3], KEPT: [1, 0], HELD: [0, 0], TRANSIENT: [9, 2]}
    assert found.totals == [13, 5]
