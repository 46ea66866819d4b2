"""What a user knows about a classifier's features, checked when it is given: a search takes minutes, a file is JSON."""

from collections.abc import Mapping
from typing import Any

from diffexplain_fast.errors import CorruptFileError, wrong_type
from diffexplain_fast.models.labels import check_text
from diffexplain_fast.records import read_as
from diffexplain_fast.results.explanation import Truth


def checked_truth(truth: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a truth as JSON has it: numbers of any library as Python's, tuples and arrays as lists.

    Args:
        truth: from label to what is known: a dict, whose "attributes", if there are any, are shown in reports.

    Raises:
        TypeError: a key that is no text, or a value that JSON does not have.
        ValueError: attributes without an effect, an interval and a role; text that UTF-8 cannot encode.
    """
    plain = _as_json(truth, "truth")
    for label, known in plain.items():
        place = f"truth of {label!r}"
        if not isinstance(known, dict):
            raise wrong_type(place, "a dict of what is known", known)
        try:
            read_as(Truth, known, place)
        except CorruptFileError as error:
            raise ValueError(str(error)) from error
    return plain


def _as_json(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool | str):
        if isinstance(value, str):
            check_text(place, [value])
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise wrong_type(place, "text as keys", key)
            check_text(place, [key])
        return {str(key): _as_json(item, f"{place}, {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, place) for item in value]
    if hasattr(value, "tolist"):  # an array, a tensor, or a number of theirs
        return _as_json(value.tolist(), place)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise wrong_type(place, "text, numbers, lists and dicts", value)
