"""What an audit may be told, checked once."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import get_args

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.records import JsonObject
from diffexplain_fast.stats.cells import Rule
from diffexplain_fast.stats.decisions import Control, looks
from diffexplain_fast.stats.design import BLOCK
from diffexplain_fast.targets import whole_number

_LEAST = 24
"""Pictures below which no concept of any useful trial is asked for often enough."""
_ENOUGH = 4 * BLOCK
"""Pictures of the shared pool for each block of a class's own object, where something is undecided."""
_ALL_OWN = 16
"""Classes that get pictures of their own objects without being asked for, at most."""


@dataclass(frozen=True)
class AuditOptions:
    """Options of an audit.

    Attributes:
        pictures: of the shared pool at most, at least 24.
        minimal_effect: effect, in centred logits, below which nothing is called a finding; at least 0.
        level: rate of false findings, and error of the intervals; in (0, 1).
        control: "fdr", "any" or "family", see ``stats.decisions.one_sided_tests``.
        own_pictures: pictures that ask for a class's own object, for every class whose name is not a concept, and for
            every other class of which a concept is undecided after the last look, or may be a finding. None for a
            quarter of ``pictures`` for the former, and none where they are more than 16, with the plan in the settings;
            and for 96 of each 384 ``pictures`` for at most 16 of the latter, because more pictures that serve every
            class are better than fewer of one.
        redraw: how often a picture is drawn again, at most, in which the eye does not see what was asked for.

    Raises:
        TypeError: an option of another kind.
        ValueError: an option out of its range.
    """

    pictures: int = 400
    minimal_effect: float = 0.5
    level: float = 0.05
    control: Control = "fdr"
    own_pictures: int | None = None
    redraw: int = 0

    def __post_init__(self) -> None:
        pictures = whole_number("pictures", self.pictures)
        if pictures < _LEAST:
            raise wrong_value("pictures", f"at least {_LEAST}", pictures)
        object.__setattr__(self, "pictures", pictures)
        effect = _number("minimal_effect", self.minimal_effect)
        if effect < 0:
            raise wrong_value("minimal_effect", "at least 0", effect)
        level = _number("level", self.level)
        if not 0 < level < 1:
            raise wrong_value("level", "above 0 and below 1", level)
        if self.control not in get_args(Control):
            raise wrong_value("control", " or ".join(f'"{name}"' for name in get_args(Control)), self.control)
        if self.own_pictures is not None and whole_number("own_pictures", self.own_pictures) < 0:
            raise wrong_value("own_pictures", "at least 0", self.own_pictures)
        if whole_number("redraw", self.redraw) < 0:
            raise wrong_value("redraw", "at least 0", self.redraw)

    @property
    def beside(self) -> int:
        """Pictures of its own object that a class gets whose name is a concept, where something is undecided.

        There are none where pictures are drawn again, which these would not be.
        """
        if self.redraw:
            return 0
        if self.own_pictures is not None:
            return self.own_pictures
        return BLOCK * (self.pictures // _ENOUGH)  # whole blocks are balanced

    @property
    def most_beside(self) -> int | None:
        """Classes that get such pictures at most, without being asked for; None for all."""
        return _ALL_OWN if self.own_pictures is None else None

    def rule(self, beside: bool, shown: bool, seed: int) -> Rule:
        """Return how the cells are tested: at which numbers of pictures, and what is spent at each look.

        Args:
            beside: whether some class may get pictures of its own object after the last look; the test after them has
                as much of the level that is left as that look.
            shown: whether effects of showing may be tested; they have half as much.
            seed: of the bootstrap.
        """
        at = looks(self.pictures, self.level, 1 - 1 / (1 + beside + shown / 2))
        last = at[-1].level
        own, showing = last if beside else 0.0, last / 2 if shown else 0.0
        return Rule(at, self.minimal_effect, self.level, self.control, seed, own, showing)

    def own_count(self, classes: int) -> int:
        """Return how many pictures of its own object each class gets.

        Args:
            classes: how many classes need such pictures.
        """
        if self.own_pictures is not None:
            return self.own_pictures
        return self.pictures // 4 if classes <= _ALL_OWN else 0

    def record(self) -> JsonObject:
        """Return the options as JSON values."""
        return {
            "pictures": self.pictures,
            "minimal_effect": self.minimal_effect,
            "level": self.level,
            "control": self.control,
            "redraw": self.redraw,
            "own_pictures": self.own_pictures,
        }


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise wrong_type(name, "a number", value)
    if not math.isfinite(value):
        raise wrong_value(name, "a finite number", value)
    return float(value)
