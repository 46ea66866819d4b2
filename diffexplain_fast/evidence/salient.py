"""What workers said of hidden features of an ImageNet classifier: the table of Salient ImageNet, read from its file."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.given_files import given_bytes

_CLASS, _UNIT, _ANSWER = "Input.class_index", "Input.feature_index", "Answer.main"
_SPURIOUS = ("separate_object", "background")
"""Answers that say that a feature lies beside the class's own object."""
_ANSWERS = (*_SPURIOUS, "main_object")
"""All answers that the workers could give."""
LEAST = 3
"""Workers who must say so; five are asked."""


@dataclass(frozen=True)
class Judgement:
    """What workers said of one unit for one class.

    Attributes:
        votes: workers who saw the feature in a separate object or in the background.
        workers: who were asked.
    """

    votes: int
    workers: int

    @property
    def spurious(self) -> bool:
        """Whether the feature is called spurious."""
        return self.votes >= LEAST


def read_judgements(path: str | Path) -> dict[tuple[int, int], Judgement]:
    """Return what workers said, by the index of the class and the number of the unit.

    Args:
        path: ``discover_spurious_features.csv``: a row for each worker and pair of class and feature.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: a file that is no text or without the columns of this table, a class or feature that is no whole
            number of at least 0, or an answer that the workers could not give; names the line. Capitals and spaces
            around an answer do not matter.

    Source: S. Singla and S. Feizi, "Salient ImageNet: how to discover spurious features in deep learning?", ICLR 2022,
    section 3.3: spurious where at least 3 of 5 workers say "separate object" or "background", otherwise core.
    """
    said: dict[tuple[int, int], list[bool]] = {}
    content = _text(given_bytes("salient", "the path of a table of Salient ImageNet", path))
    with io.StringIO(content, newline="") as file:
        table = csv.DictReader(file)
        missing = [name for name in (_CLASS, _UNIT, _ANSWER) if name not in (table.fieldnames or ())]
        if missing:
            raise wrong_value("salient", f"a table with the columns {_CLASS}, {_UNIT}, {_ANSWER}", f"no {missing[0]}")
        for row in _rows(table):
            pair, answer = _pair(row, table.line_num), (row[_ANSWER] or "").strip().lower()
            if answer not in _ANSWERS:
                got = f"{row[_ANSWER]!r} in line {table.line_num}"
                raise wrong_value("salient", f"an answer {', '.join(_ANSWERS[:-1])} or {_ANSWERS[-1]}", got)
            said.setdefault(pair, []).append(answer in _SPURIOUS)
    if not said:
        raise wrong_value("salient", "at least one answer", f"an empty table, {path}")
    return {pair: Judgement(sum(votes), len(votes)) for pair, votes in said.items()}


def _pair(row: dict[str, str], line: int) -> tuple[int, int]:
    """Return class and feature of a row; a number below 0 would count units from the last."""
    try:
        index, unit = int(row[_CLASS]), int(row[_UNIT])
    except (TypeError, ValueError):
        index = unit = -1
    if min(index, unit) < 0:
        got = f"{row[_CLASS]!r} and {row[_UNIT]!r} in line {line}"
        raise wrong_value("salient", "numbers of class and feature, at least 0", got)
    return index, unit


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong_value("salient", "a table in UTF-8", error) from error


def _rows(table: "csv.DictReader[str]") -> Iterator[dict[str, str]]:
    try:
        yield from table
    except csv.Error as error:
        raise wrong_value("salient", "a table of CSV", f"{error} in line {table.line_num}") from error
