"""What a stage of the recipe works with: the build folder, its scenes, and folders that are whole or absent."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from diffexplain_fast.recipe.data import HELD_OUT_SEEDS, PROBE_SEEDS, TRAIN_SEEDS, Scenes, cached_scenes, render_scenes
from diffexplain_fast.recipe.training import Plan
from diffexplain_fast.tinyworld.grammar import draw_world

_CHECKED = 400


class Run(NamedTuple):
    """One run of the recipe.

    Attributes:
        build: folder of everything that stages leave.
        device: where to train.
        most_steps: of every training; ``None`` for what its plan says. Few prove that a stage runs.
        most_scenes: of every data set; ``None`` for all.
        later: seconds that the stages after the present one are expected to take.
        figures: whether what a stage has made is measured at once.
    """

    build: Path
    device: torch.device
    most_steps: int | None = None
    most_scenes: int | None = None
    later: float = 0.0
    figures: bool = True

    def plan(self, plan: Plan) -> Plan:
        """Return a plan, cut to ``most_steps``."""
        return plan if self.most_steps is None else plan._replace(steps=min(plan.steps, self.most_steps))

    def train_scenes(self) -> Scenes:
        """Return the scenes of every model but the judge."""
        return cached_scenes(self.build, self._cut(TRAIN_SEEDS))

    def probe_scenes(self) -> Scenes:
        """Return the scenes of the judge."""
        return cached_scenes(self.build, self._cut(PROBE_SEEDS))

    def held_out_scenes(self) -> Scenes:
        """Return the 400 scenes of the checks that end a stage."""
        return render_scenes(self._cut(HELD_OUT_SEEDS[:_CHECKED]), draw_world)

    def _cut(self, seeds: range) -> range:
        return seeds[: self.most_scenes]

    def finish(self, name: str, *writers: Callable[[Path], object]) -> None:
        """Make the folder ``name``, whole or not at all: a stage is done when it is there.

        Args:
            name: of the folder.
            *writers: each writes its files into the folder that it is given.
        """
        partial = self.build / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for write in writers:
            write(partial)
        partial.rename(self.build / name)
