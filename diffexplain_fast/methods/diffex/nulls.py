"""What edits do to the score where nothing is to change: placebos, and the error of an effect on one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.kinds import GUIDE, INPAINT, null_of, place_of, rows_before, rows_of
from diffexplain_fast.methods.diffex.scene import Scene
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.stats.placebo import placebo_p, placebo_spread

_PLACEBOS = 2
"""Placebos of each picture, made as edits chosen by chance were: so editors have the share that they have of edits."""
_REDRAWS, _FEWER, _MANY = 3, 2, 7
"""Regions drawn anew for each kind of place: three where so many edits act or there is one kind only, else two."""
_NEW = "what is new"
"""The kind of place of things that an edit adds."""
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
    """

    redraws: list[float] = field(default_factory=list)
    autoencoder: list[float] = field(default_factory=list)
    placebos: Mapping[str, Sequence[float]] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    places: Mapping[str, "Null"] = field(default_factory=dict)

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
        return Null(redraws, lost, self.placebos)

    def spread(self, editor: str) -> float:
        """Return the half-width of the 95 % interval of one effect by an editor, from a single edit."""
        return placebo_spread(self._values(editor), twice=self.autoencoder)

    def p(self, effect: float, editor: str) -> float:
        """Return how probable an effect of at least this size is where a concept does nothing."""
        return placebo_p(effect, self._values(editor), self.autoencoder)

    def _values(self, editor: str) -> Sequence[float]:
        return self.redraws or null_for(editor, self.placebos)


def null_for(editor: str, placebos: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """Return the placebos of an editor; of one that has none, all of them."""
    return placebos.get(null_of(editor)) or [value for values in placebos.values() for value in values]


def placebos_of(lab: Lab, scene: Scene, trials: Sequence[Trial]) -> Placebos:
    """Return effects of edits that say the same again, each made as an edit of the picture was."""
    found: Placebos = {}
    some = [trials[i] for i in np.random.default_rng(scene.index).permutation(len(trials))[:_PLACEBOS]]
    for editor in dict.fromkeys(null_of(trial.editor) for trial in some):
        masks = torch.stack([one.mask for one in some if null_of(one.editor) == editor])
        if editor != GUIDE and lab.budget.allows((rows_of(editor) + rows_before(editor)) * len(masks)):
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
    kinds = [_place(lab, scene, trial) for trial in trials]
    where = {name: kind for trial, kind in zip(trials, kinds, strict=True) for name in trial.job.names}
    places = {}
    for kind in dict.fromkeys(kinds):
        some = [trial for trial, its in zip(trials, kinds, strict=True) if its == kind]
        count = _REDRAWS if len(some) >= _MANY or len({*kinds}) == 1 else _FEWER
        places[kind] = _null_at(lab, scene, some, kind, count)
    redraws, lost = ([value for some in lists for value in some] for lists in _lists([*places.values()]))
    return Null(redraws, lost, where=where, places=places)


def _place(lab: Lab, scene: Scene, trial: Trial) -> str:
    """Return the kind of place that an edit acts on: a new one where it adds something."""
    return place_of(trial.job.changes) if lab.drawing.regions.there(scene, trial.job) else _NEW


def _lists(nulls: Sequence[Null]) -> tuple[list[list[float]], list[list[float]]]:
    return [one.redraws for one in nulls], [one.autoencoder for one in nulls]


def _null_at(lab: Lab, scene: Scene, trials: Sequence[Trial], place: str, count: int) -> Null:
    some = _some(trials, count)
    masks, own = torch.stack([trial.mask for trial in some]), lab.answers.ask(scene.pixels).value
    before = lab.answers.ask(lab.drawing.baseline(scene, masks)).value
    found = Null(autoencoder=(before - own).tolist())

    def redraws() -> Tensor:
        if place != _NEW:
            return lab.answers.ask(lab.drawing.redrawn(scene, masks).pixels).value - before
        drawn = lab.drawing.redrawn(scene, masks, [trial.job.caption for trial in some])
        again = lab.answers.ask(drawn.pixels).value - before
        drawings = torch.tensor([2.0 if trial.editor == INPAINT else 1.0 for trial in some]).to(again)
        return (again - torch.tensor([trial.effect for trial in some]).to(again)) / drawings.sqrt()

    if place and lab.drawing.regions.known and lab.budget.allows(rows_of(INPAINT) * len(masks)):
        found.redraws = lab.numbers("redraw", scene, redraws, masks=masks)
    return found


def _placebos(lab: Lab, scene: Scene, editor: str, masks: Tensor) -> Tensor:
    drawn = lab.drawing.placebo(scene, editor, masks)
    return lab.answers.ask(drawn.pixels).value - lab.answers.ask(drawn.before).value


def _some(trials: Sequence[Trial], count: int) -> Sequence[Trial]:
    """Return so many trials, evenly from all of them."""
    return trials[:: max(1, len(trials) // count)][:count]
