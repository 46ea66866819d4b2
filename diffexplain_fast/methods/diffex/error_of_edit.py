"""The error of an effect on one picture, from what edits do to the score where nothing is to change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diffexplain_fast.methods.diffex.kinds import null_of
from diffexplain_fast.stats.placebo import Error, is_flat, placebo_error


@dataclass
class Null:
    """What the tools of an edit do to one picture's score where nothing is to change.

    Attributes:
        redraws: effects of regions that are drawn anew with the picture's own words.
        autoencoder: effects of the same regions through the autoencoder. An effect has two: of the old and the new one.
        placebos: of all pictures, by editor; what counts where nothing was drawn anew.
        where: name of a concept to the kind of place that its edit acts on.
        places: kind of place to the null there: another object changes a score more than another sky.
        unknown: whether redraws are wanted and the budget left them out, so that nobody knows how far an effect errs.
    """

    redraws: list[float] = field(default_factory=list)
    autoencoder: list[float] = field(default_factory=list)
    placebos: Mapping[str, Sequence[float]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    places: Mapping[str, "Null"] = field(default_factory=dict)
    unknown: bool = False

    @property
    def left_out(self) -> bool:
        """Whether the budget left out the redraws of some kind of place."""
        return self.unknown or any(one.unknown for one in self.places.values())

    def at(self, names: Sequence[str], effect: float = 0.0) -> "Null":
        """Return the null of an edit of some concepts: of the places that it acts on, whose errors add up.

        Where no redraw of a place moves the score, beside an effect, nobody knows how far an edit errs there: those of
        the picture's other places say more.

        Args:
            names: of the concepts.
            effect: of the edit; see ``stats.placebo.is_flat``.
        """
        kinds = dict.fromkeys(self.where[name] for name in names if name in self.where)
        if not kinds:
            return self
        parts = [self.places[kind] for kind in kinds]
        moved = [value for one in self.places.values() if not is_flat(one.redraws, effect) for value in one.redraws]
        # A budget may have ended before a place had its redraws; those of all places are better than none.
        drawn = [one.redraws or (self.redraws if kind else []) for kind, one in zip(kinds, parts, strict=True)]
        drawn = [moved or some if is_flat(some, effect) and some else some for some in drawn]
        redraws, lost = (
            [sum(some) for some in zip(*filter(None, lists), strict=False)]
            for lists in (drawn, [one.autoencoder for one in parts])
        )
        unknown = any(one.unknown and not found for one, found in zip(parts, drawn, strict=True))
        return Null(redraws, lost, self.placebos, unknown=unknown)

    def spread(self, *editors: str, effect: float = 0.0) -> float:
        """Return the largest half-width of the 95 % interval of an effect by an editor, infinite if none is known."""
        errors = [error for editor in editors if (error := self.error(editor, effect)) is not None]
        return max((error.spread() for error in errors), default=math.inf)

    def error(self, editor: str, effect: float = 0.0) -> Error | None:
        """Return the error of an effect by an editor; None if it is not known, as where the score is flat beside it."""
        found = placebo_error(self.redraws or null_for(editor, self.placebos), self.autoencoder)
        flat = is_flat(self.redraws or [found.deviation], effect)
        return None if self.unknown or flat or not found.freedom else found

    def p(self, effect: float, editor: str) -> float:
        """Return how probable an effect of at least this size is where a concept does nothing; 1 if unknown."""
        error = self.error(editor, effect)
        return error.p(effect) if error is not None else 1.0


def null_for(editor: str, placebos: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """Return the placebos of an editor; of one that has none, all of them."""
    return placebos.get(null_of(editor)) or [value for values in placebos.values() for value in values]
