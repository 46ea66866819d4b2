"""The table of concepts that change decisions: greedy, of verified edits, with intervals."""

from typing import Any

import pytest
from PIL import Image

from diffexplain_fast.results.effects import Edit
from diffexplain_fast.results.flips import flips_of
from tests.report.test_attribution import attribution

_PICTURE = Image.new("RGB", (4, 4))


def _edit(concept: str, flipped: bool | None, points: float = -50.0, verified: bool = True) -> Edit:
    return Edit(_PICTURE, verified, points / 10, (concept,), points, flipped)


def test_each_concept_counts_what_those_above_it_left() -> None:
    found = {
        0: [_edit("a", True), _edit("b", True), _edit("c", False, -1.0)],
        1: [_edit("a", True), _edit("b", False), _edit("c", False, -1.0)],
        2: [_edit("a", False), _edit("b", True), _edit("c", True, -40.0)],
        3: [_edit("a", False), _edit("c", False, -1.0)],
        4: [_edit("a", None), _edit("b", None)],  # the classifier does not see the target in this picture
    }
    table = flips_of(found, 10)
    # "a" and "b" change two each, "b" in three pictures; of equal ones the name decides.
    assert [(one.concept, one.n) for one in table] == [("b", 3), ("a", 4), ("c", 4)]
    assert [one.together for one in table] == [0.5, 0.75, 0.75]
    assert [one.together for one in flips_of(found, 10, recognised=6)] == [2 / 6, 3 / 6, 3 / 6]
    assert [one.flipped for one in table] == [pytest.approx(2 / 3), 0.5, 0.25]
    assert all(one.low < one.flipped < one.high for one in table)
    assert table[2].points == pytest.approx(-10.75) and len(flips_of(found, 1)) == 1


def test_only_verified_edits_of_one_concept_count_and_seeds_vote() -> None:
    pair = Edit(_PICTURE, True, -9.0, ("a", "b"), -90.0, True)
    found = {0: [_edit("a", True), _edit("a", False), _edit("a", False), _edit("b", True, verified=False), pair]}
    (row,) = flips_of(found, 10)
    assert row.concept == "a" and row.flipped == 0.0 and row.together == 0.0
    assert flips_of({0: [_edit("a", None)]}, 10) == [] and flips_of({}, 10) == []


def test_a_tie_over_seeds_is_no_change() -> None:
    votes = ([True, False], [True, True, False], [True, True, False, False])
    tie, most, half = (flips_of({0: [_edit("a", one) for one in some]}, 10)[0] for some in votes)
    assert (tie.flipped, most.flipped, half.flipped) == (0.0, 1.0, 0.0) and tie.together == 0.0


def test_equal_pictures_are_one_with_the_edits_of_all() -> None:
    found = {i: [_edit("a", True, -10.0)] for i in range(4)} | {4: [_edit("a", False, -2.0)]}
    (row,) = flips_of(found, 10, same=[0, 0, 0, 0, 4])
    (two,) = flips_of({0: found[0], 1: found[4]}, 10)
    assert row == two and (row.n, row.flipped, row.together, row.points) == (2, 0.5, 0.5, -6.0)
    split = {0: [_edit("a", True)], 1: [_edit("a", False)], 2: [_edit("b", True)]}
    table = flips_of(split, 10, 1, [0, 0, 0])
    assert [(one.concept, one.n, one.flipped) for one in table] == [("b", 1, 1), ("a", 1, 0)]


def test_an_attribution_counts_equal_pictures_once() -> None:
    result = attribution()
    result.images, result.recognised = [_PICTURE, _PICTURE.copy(), _PICTURE.copy()], [0, 1, 2]
    result.found = {i: [_edit("ground:snow", True)] for i in range(3)}
    (row,) = result.flips()
    assert (row.n, row.together) == (1, 1.0) and row.low == pytest.approx(0.2065, abs=1e-3)
    result.images[2] = Image.new("RGB", (4, 4), "red")
    assert [(one.n, one.together) for one in result.flips()] == [(2, 1.0)]
    result.images[2] = Image.new("RGB", (2, 8))  # as many bytes, another picture
    assert [one.n for one in result.flips()] == [2]


def test_an_attribution_has_the_table() -> None:
    result = attribution()
    result.found[0].append(_edit("ground:snow", True))
    assert [one.concept for one in result.flips()] == ["ground:snow"]
    with pytest.raises(ValueError, match="top: wanted 1 or more"):
        result.flips(0)


@pytest.mark.parametrize("image", [True, 1.0, "0", None, -1, 5])
def test_a_number_of_a_picture_is_whole(image: Any) -> None:
    for ask in (attribution().edits, attribution().map):
        with pytest.raises(ValueError, match="image: wanted a number below"):
            ask(image)


@pytest.mark.parametrize("concept", [3, ["thing:fish", 3], [["thing:fish"]]])
def test_concepts_of_another_kind_are_refused(concept: Any) -> None:
    with pytest.raises(TypeError, match="concept: wanted the name of a concept"):
        attribution().edits(0, concept)


@pytest.mark.parametrize("top", ["x", None, 1.5, True])
def test_the_length_of_the_table_is_whole(top: Any) -> None:
    with pytest.raises(TypeError, match="top: wanted a whole number"):
        attribution().flips(top)
