"""What edits do to the score where nothing is to change: placebos, and the error of an effect on one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.kinds import GUIDE, INPAINT, null_of, rows_before, rows_of
from diffexplain_fast.methods.diffex.scene import Scene
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.stats.placebo import placebo_p, placebo_spread

_PLACEBOS = 1
"""Placebos of each picture and editor; each is pasted by the mask of a real edit."""
_REDRAWS = 3
"""Regions of each picture that are drawn anew."""
Placebos = dict[str, list[float]]
"""Effects of edits that say the same again, by editor."""


@dataclass
class Null:
    """What the tools of an edit do to one picture's score where nothing is to change.

    Attributes:
        redraws: effects of regions that are drawn anew with the picture's own words.
        autoencoder: effects of the same regions through the autoencoder. An effect has two such errors: what is lost of
            the old thing, and what would be lost of the new one.
        placebos: of all pictures, by editor; what counts where nothing was drawn anew.
    """

    redraws: list[float] = field(default_factory=list)
    autoencoder: list[float] = field(default_factory=list)
    placebos: Mapping[str, Sequence[float]] = field(default_factory=dict)

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
    """Return effects of edits of a picture that say the same again, through the masks of real edits."""
    found: Placebos = {}
    for editor in dict.fromkeys(null_of(trial.editor) for trial in trials):
        masks = _some([trial for trial in trials if null_of(trial.editor) == editor], _PLACEBOS)
        if editor != GUIDE and lab.budget.allows((rows_of(editor) + rows_before(editor)) * len(masks)):
            run = partial(_placebos, lab, scene, editor, masks)
            found[editor] = lab.numbers("placebo", scene, run, editor=editor, masks=masks)
    return found


def null_of_picture(lab: Lab, scene: Scene, trials: Sequence[Trial]) -> Null:
    """Return the error of an effect on a picture, measured in the regions of some of its edits.

    A region is drawn anew with the picture's own words and fresh noise: what that does is what a drawing of the
    generator changes beside what was asked for. Without a segmenter every region is the whole picture, and drawing it
    anew would give another picture; then only the autoencoder's error is measured.

    Args:
        lab: draws and measures.
        scene: the picture.
        trials: its edits.
    """
    if not trials:
        return Null()
    masks, own = _some(trials, _REDRAWS), lab.answers.ask(scene.pixels).value
    before = lab.answers.ask(lab.drawing.baseline(scene, masks)).value
    found = Null(autoencoder=(before - own).tolist())

    def redraws() -> Tensor:
        return lab.answers.ask(lab.drawing.redrawn(scene, masks).pixels).value - before

    if lab.drawing.regions.known and lab.budget.allows(rows_of(INPAINT) * len(masks)):
        found.redraws = lab.numbers("redraw", scene, redraws, masks=masks)
    return found


def _placebos(lab: Lab, scene: Scene, editor: str, masks: Tensor) -> Tensor:
    drawn = lab.drawing.placebo(scene, editor, masks)
    return lab.answers.ask(drawn.pixels).value - lab.answers.ask(drawn.before).value


def _some(trials: Sequence[Trial], count: int) -> Tensor:
    """Return the masks [count, 1, H, W] of so many trials, evenly from all of them."""
    masks = [trial.mask for trial in trials]
    return torch.stack(masks[:: max(1, len(masks) // count)][:count])
