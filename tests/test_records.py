"""Values from JSON become records, or the error names the place of a wrong value."""

from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest

from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.records import Count, Magnitude, Range, Share, read_as


@dataclass
class Point:
    """A dataclass with a tuple, which JSON does not have."""

    name: str
    place: tuple[float, float] | None


class Open(TypedDict, total=False):
    """A dict that may have further keys."""

    points: list[Point]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Any, [{"a": None}]),
        (int, 3),
        (float, 3),
        (float, 0.5),
        (bool, True),
        (str, ""),
        (str | None, None),
        (list[int], []),
        (dict[str, list[float]], {"a": [1.0]}),
        (Count, 0),
        (Share, 1.0),
        (Magnitude, 1e300),
        (Annotated[int, Range(-1, 1)], -1),
        (Open, {"more": 1, "points": [{"name": "a", "place": None}]}),
        (Open, {}),
    ],
)
def test_a_value_of_the_right_type_comes_back_unchanged(kind: Any, value: Any) -> None:
    assert read_as(kind, value, "a.json") is value or read_as(kind, value, "a.json") == value


def test_dataclasses_and_tuples_are_created() -> None:
    assert read_as(list[Point], [{"name": "a", "place": [1, 2.5]}], "a.json") == [Point("a", (1, 2.5))]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, True, "a.json: wanted int, got True"),
        (int, 1.0, "wanted int"),
        (bool, 1, "wanted bool"),
        (str, None, "wanted str, got None"),
        (float, "1", "wanted a finite number, got '1'"),
        (float, float("nan"), "wanted a finite number"),
        (float, float("inf"), "wanted a finite number"),
        (float, 10**400, "wanted a finite number"),
        (float, True, "wanted a finite number"),
        (str | None, 3, "wanted str"),
        (list[int], {"a": 1}, r"wanted list\[int\]"),
        (list[int], [1, "a"], "a.json, 1: wanted int, got 'a'"),
        (dict[str, int], [], "wanted dict"),
        (dict[str, int], {"a": None}, "a.json, a: wanted int"),
        (tuple[float, float], [1], "wanted tuple"),
        (Share, 1.5, "a.json: wanted a number from 0 to 1, got 1.5"),
        (Count, -1, "wanted a number from 0 to"),
        (Count, 10**400, "wanted a number from 0 to"),
        (Point, [], "wanted a dict of name, place"),
        (Point, {"name": "a"}, "wanted a dict of name, place"),
        (Point, {"name": "a", "place": None, "more": 1}, "wanted a dict of name, place"),
        (Point, {"name": "a", "place": [0, "b"]}, "a.json, place, 1: wanted a finite number"),
        (Open, {"points": [{"name": 1, "place": None}]}, "a.json, points, 0, name: wanted str, got 1"),
        (Open, [], "wanted a dict of points"),
    ],
)
def test_a_value_of_another_type_is_named(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        read_as(kind, value, "a.json")
