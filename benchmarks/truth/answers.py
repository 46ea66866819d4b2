"""What a method says of a class, in one form for all methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.truth.described import Description, Pair
from benchmarks.truth.subjects import Subject

DIGITS = 4


class Answer(NamedTuple):
    """What a method says of a class.

    Attributes:
        scores: how much each concept raises the class, in the order of the concepts; the unit is the method's own.
        named: the concepts that the method names; None if the method ranks concepts and draws no line.
        pairs: concepts that act together.
        low: lower ends of the intervals of the scores, None without intervals.
        high: upper ends.
        undecided: concepts of which the method says that it does not know.
        verdict: kind of the verdict, None for a method that has none.
    """

    scores: Sequence[float]
    named: Sequence[str] | None = None
    pairs: Sequence[Pair] = ()
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    undecided: Sequence[str] = ()
    verdict: str | None = None

    def record(self) -> dict[str, Any]:
        """Return JSON values."""
        found = self._asdict() | {"pairs": [list(pair) for pair in self.pairs]}
        for key in ("scores", "low", "high"):
            values = found[key]
            found[key] = None if values is None else [round(float(value), DIGITS) for value in values]
        return found

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Answer":
        """Return the answer that ``record`` gave."""
        return cls(**{**record, "pairs": [Pair(*pair) for pair in record["pairs"]]})

    def names(self, concepts: Sequence[str], line: float) -> list[str]:
        """Return the concepts that count as named, the strongest first.

        Args:
            concepts: of the scores.
            line: a method that draws no line itself names what scores above this one.
        """
        scored = dict(zip(concepts, self.scores, strict=True))
        named = [name for name in concepts if scored[name] > line] if self.named is None else list(self.named)
        return sorted(named, key=lambda name: -abs(scored[name]))

    def description(self, concepts: Sequence[str], line: float) -> Description:
        """Return what the named concepts promise; see ``names`` for the arguments."""
        scored = dict(zip(concepts, self.scores, strict=True))
        return Description({name: scored[name] for name in self.names(concepts, line)}, self.pairs)


Method = Callable[[Subject], dict[str, Answer]]
"""A method: from what it may look at to its answer for each class, at least for ``Subject.labels``."""
