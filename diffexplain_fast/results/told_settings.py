"""The settings of an explanation that summaries, pages and further calls read again."""

from typing import TypedDict

from diffexplain_fast.records import Count, Number


class _Found(TypedDict, total=False):
    by: str | None
    moved: bool | None
    steps_convinced: Count | None
    attempt: Count | None
    attempt_convinced: Count | None
    left_out: list[str] | None


class _Validation(TypedDict):
    attempt: Count
    step: Count


class _Started(TypedDict):
    name: str


class ToldSettings(TypedDict, total=False):
    """The settings that are read again, each where it is there."""

    found: _Found
    validations: list[_Validation]
    starts: list[_Started]
    class_index: Count | None
    to_be_beyond: Number | None
