"""What edits do to the score where nothing is to change: placebos, and redraws of one picture."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.costs import rows_of_placebo, rows_of_redraws
from diffexplain_fast.methods.diffex.error_of_edit import Null
from diffexplain_fast.methods.diffex.errors_at import NEW, has_redraws, place_at, redraws_at
from diffexplain_fast.methods.diffex.kinds import GUIDE, INPAINT, null_of
from diffexplain_fast.methods.diffex.scene import Scene
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab

_PLACEBOS = 2
"""Placebos of each picture, made as edits chosen by chance were: so editors have the share that they have of edits."""
Placebos = dict[str, list[float]]
"""Effects of edits that say the same again, by editor."""


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
