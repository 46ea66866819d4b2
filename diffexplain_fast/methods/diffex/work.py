"""All trials of one picture, and the placebos beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.kinds import GUIDE, null_of, rows_of
from diffexplain_fast.methods.diffex.pairs import Names
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab

_PLACEBOS = 2
"""Placebos of each picture and editor; each is pasted by the mask of another edit."""


@dataclass
class Work:
    """One picture's trials, by names of concepts, and the effects of concepts that were only screened."""

    scene: Scene
    trials: dict[Names, list[Trial]] = field(default_factory=dict)
    screened: dict[str, float] = field(default_factory=dict)

    @property
    def jobs(self) -> list[Job]:
        """The jobs that were drawn."""
        return [trials[0].job for trials in self.trials.values()]

    def verified(self, name: str) -> bool:
        """Return whether the first edit of a concept was verified."""
        return self.trials[(name,)][0].verified

    def keep(self, trials: Sequence[Trial]) -> None:
        """Add trials."""
        for trial in trials:
            self.trials.setdefault(trial.job.names, []).append(trial)


def placebos_of(lab: Lab, work: Sequence[Work]) -> dict[str, list[float]]:
    """Return effects of edits that say the same again, through the masks of real edits."""
    found: dict[str, list[float]] = {}
    for one in work:
        trials = [trial for some in one.trials.values() for trial in some]
        for editor in dict.fromkeys(null_of(trial.editor) for trial in trials):
            masks = [trial.mask for trial in trials if null_of(trial.editor) == editor]
            masks = masks[:: max(1, len(masks) // _PLACEBOS)][:_PLACEBOS]
            if editor != GUIDE and lab.budget.allows(2 * rows_of(editor) * len(masks)):
                some = torch.stack(masks)
                run = partial(_placebos, lab, one.scene, editor, some)
                found.setdefault(editor, []).extend(lab.numbers("placebo", one.scene, run, editor=editor, masks=some))
    return found


def _placebos(lab: Lab, scene: Scene, editor: str, masks: Tensor) -> Tensor:
    drawn = lab.drawing.placebo(scene, editor, masks)
    return lab.answers.ask(drawn.pixels).value - lab.answers.ask(drawn.before).value
