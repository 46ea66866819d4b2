"""What edits do to the score where nothing is to change: placebos, and the error of an effect on one picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.costs import rows_of_placebo, rows_of_redraws
from diffexplain_fast.methods.diffex.errors_at import NEW, has_redraws, place_at, redraws_at
from diffexplain_fast.methods.diffex.kinds import GUIDE, INPAINT, null_of
from diffexplain_fast.methods.diffex.scene import Scene
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.stats.placebo import Error, placebo_error

_PLACEBOS = 2
"""Placebos of each picture, made as edits chosen by chance were: so editors have the share that they have of edits."""
Placebos = dict[str, list[float]]
"""Effects of edits that say the same again, by editor."""


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

    def at(self, names: Sequence[str]) -> "Null":
        """Return the null of an edit of some concepts: of the places that it acts on, whose errors add up."""
        kinds = dict.fromkeys(self.where[name] for name in names if name in self.where)
        if not kinds:
            return self
        parts = [self.places[kind] for kind in kinds]
        # A budget may have ended before a place had its redraws; those of all places are better than none.
        drawn = [one.redraws or (self.redraws if kind else []) for kind, one in zip(kinds, parts, strict=True)]
        redraws, lost = (
            [sum(some) for some in zip(*filter(None, lists), strict=False)]
            for lists in (drawn, [one.autoencoder for one in parts])
        )
        unknown = any(one.unknown and not found for one, found in zip(parts, drawn, strict=True))
        return Null(redraws, lost, self.placebos, unknown=unknown)

    def spread(self, *editors: str) -> float:
        """Return the largest half-width of the 95 % interval of one effect by an editor, infinite if none is known."""
        errors = [error for editor in editors if (error := self.error(editor)) is not None]
        return max((error.spread() for error in errors), default=math.inf)

    def error(self, editor: str) -> Error | None:
        """Return the error of one effect by an editor, None if it is not known."""
        found = placebo_error(self.redraws or null_for(editor, self.placebos), self.autoencoder)
        return None if self.unknown or not found.freedom else found

    def p(self, effect: float, editor: str) -> float:
        """Return how probable an effect of at least this size is where a concept does nothing; 1 if unknown."""
        error = self.error(editor)
        return error.p(effect) if error is not None else 1.0


def null_for(editor: str, placebos: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """Return the placebos of an editor; of one that has none, all of them."""
    return placebos.get(null_of(editor)) or [value for values in placebos.values() for value in values]


def placebos_of(lab: Lab, scene: Scene, trials: Sequence[Trial]) -> Placebos:
    """Return effects of edits that say the same again, each made as an edit of the picture was."""
    found: Placebos = {}
    some = [trials[i] for i in np.random.default_rng(scene.index).permutation(len(trials))[:_PLACEBOS]]
    for editor in dict.fromkeys(null_of(trial.editor) for trial in some):
        masks = torch.stack([one.mask for one in some if null_of(one.editor) == editor])
        if editor != GUIDE and lab.budget.allows(rows_of_placebo(lab.drawing.models, editor) * len(masks)):
            run = partial(_placebos, lab, scene, editor, masks)
            found[editor] = lab.numbers("placebo", scene, run, editor=editor, masks=masks)
    return found


def null_of_picture(lab: Lab, scene: Scene, trials: Sequence[Trial]) -> Null:
    """Return the error of an effect on a picture, measured in the regions of some of its edits of every kind of place.

    A region is drawn anew with the picture's own words and fresh noise: what that does is what a drawing of the
    generator changes beside what was asked for. Without a segmenter every region is the whole picture, and drawing it
    anew would give another picture; then, and where an edit acts on the whole picture, only the autoencoder's error is
    measured. Where an edit adds something there is nothing to be drawn anew: the new thing is drawn once more, and two
    drawings differ by the error of two; another editor differs from a drawing by more, which is left in.

    Args:
        lab: draws and measures.
        scene: the picture.
        trials: its edits.
    """
    kinds = [place_at(lab.drawing.regions, scene, trial.job) for trial in trials]
    where = {name: kind for trial, kind in zip(trials, kinds, strict=True) for name in trial.job.names}
    places, kept = {}, lab.budget.release(scene.index)
    for kind, count in redraws_at(kinds).items():
        some = [trial for trial, its in zip(trials, kinds, strict=True) if its == kind]
        some = some[:: len(some) // count][:count]  # evenly from all of them
        rows = rows_of_redraws(lab.drawing.models, count) if has_redraws(lab.drawing.regions, kind) else 0
        allowed = rows <= kept or lab.budget.allows(rows)
        kept -= min(rows, kept)
        places[kind] = _null_at(lab, scene, some, kind, bool(rows) and allowed)
        places[kind].unknown = not allowed
    redraws = [value for one in places.values() for value in one.redraws]
    lost = [value for one in places.values() for value in one.autoencoder]
    unknown = not redraws and any(one.unknown for one in places.values())
    return Null(redraws, lost, where=where, places=places, unknown=unknown)


def _null_at(lab: Lab, scene: Scene, some: Sequence[Trial], place: str, drawn_anew: bool) -> Null:
    masks, own = torch.stack([trial.mask for trial in some]), lab.answers.ask(scene.pixels).value
    before = lab.answers.ask(lab.drawing.baseline(scene, masks)).value
    found = Null(autoencoder=(before - own).tolist())

    def redraws() -> Tensor:
        if place != NEW:
            return lab.answers.ask(lab.drawing.redrawn(scene, masks).pixels).value - before
        drawn = lab.drawing.redrawn(scene, masks, [trial.job.caption for trial in some])
        again = lab.answers.ask(drawn.pixels).value - before
        drawings = torch.tensor([2.0 if trial.editor == INPAINT else 1.0 for trial in some]).to(again)
        return (again - torch.tensor([trial.effect for trial in some]).to(again)) / drawings.sqrt()

    if drawn_anew:
        found.redraws = lab.numbers("redraw", scene, redraws, masks=masks)
    return found


def _placebos(lab: Lab, scene: Scene, editor: str, masks: Tensor) -> Tensor:
    drawn = lab.drawing.placebo(scene, editor, masks)
    return lab.answers.ask(drawn.pixels).value - lab.answers.ask(drawn.before).value
