"""Pictures of screened words, scores that a checkpoint stores, and what the scores cost."""

import json
import math
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.methods.diffexplainer.album import Album

SCREEN = "screen"
"""First part of the keys of screened texts."""
_COST = "cost"
"""First part of the keys under which the cost of scores is kept."""


@dataclass(frozen=True, eq=False)
class Kept:
    """What screening need not compute again.

    Attributes:
        album: pictures that are the same for every target of a pipeline.
        scores: scores by what was scored, for one target, and what the scores cost; a checkpoint stores them.
        cost: of the problem.
        counted: keys of the scores whose cost is counted.
    """

    album: Album = field(default_factory=Album)
    scores: MutableMapping[str, list[float]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    counted: set[str] = field(default_factory=set)

    @property
    def words(self) -> int:
        """Texts that were screened, also those that an interrupted run had screened and whose scores were read."""
        return sum(len(self.scores[key]) for key in self.counted if json.loads(key)[0] == SCREEN)

    def scored(self, what: Sequence[object], count: int, score: Callable[[], Tensor]) -> list[float]:
        """Return ``count`` scores, computed if they are not there; never kept if one is NaN or infinite.

        Scores of an interrupted run cost when they are read what they cost then: so a budget ends the same work.
        """
        key, cost_key = json.dumps(what), json.dumps([_COST, *what])
        if len(self.scores.get(key, ())) != count:
            before = self.cost.spent
            found = score().tolist()
            if not all(map(math.isfinite, found)):
                raise NonFiniteError(f"screening: wanted finite scores, got {found} for {key}")
            spent = [now - then for now, then in zip(self.cost.spent, before, strict=True)]
            self.scores[cost_key] = spent
            self.scores[key] = found
        elif key not in self.counted and cost_key in self.scores:
            self.cost.add(*self.scores[cost_key])
        self.counted.add(key)
        return self.scores[key]
