"""Jobs are drawn, checked and measured; a job whose edit fails is drawn again by another editor or with other noise."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.methods.diffex.budget import Budget
from diffexplain_fast.methods.diffex.costs import redraw_rows, rows_of_try
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.eyes import Eye
from diffexplain_fast.methods.diffex.jobs import Jobs
from diffexplain_fast.methods.diffex.kinds import TRIES
from diffexplain_fast.methods.diffex.notes import Done, Notes
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.trial import Trial, measured, packed, unpacked
from diffexplain_fast.records import Json


class Lab(NamedTuple):
    """What draws, what checks, what measures, and what it may cost.

    Attributes:
        drawing: runs editors.
        eye: the verifier.
        answers: the classifier's.
        budget: what may be spent.
        notes: of what is done already.
        jobs: makes jobs.
    """

    drawing: Drawing
    eye: Eye
    answers: Answers
    budget: Budget
    notes: Notes
    jobs: Jobs

    def run(
        self,
        scene: Scene,
        jobs: Sequence[Job],
        seed: int = 0,
        tries: int = TRIES,
        beside: Sequence[Job] | None = None,
    ) -> list[Trial]:
        """Return one trial of each job that the budget allows, in their order.

        A job that the verifier rejects is tried again; only once where the verifier is unsure of its category, or where
        a single concept has changed something else too: of its tries the one that changed least counts.

        Args:
            scene: the picture.
            jobs: any number.
            seed: number of the repetition.
            tries: at most, 1 to 3.
            beside: a job for each edit of the picture so far, where its errors are not measured yet: the rows for that
                are kept back, if more than the very first edit is made. None where they are measured.
        """
        found: dict[int, Trial] = {}
        todo = list(range(len(jobs)))
        for attempt in range(tries):
            left, todo = todo, []
            while left:
                some = [jobs[i] for i in left[: self.budget.at_once(len(left))]]
                if attempt or beside is None:
                    fits = self._fitting(scene, some, attempt)
                else:
                    fits = self._kept(scene, some, [*beside, *(jobs[i] for i in found)])
                now, left = left[:fits], left[fits:] if fits == len(some) else []
                if now:
                    for i, trial in zip(now, self._once(scene, some[:fits], attempt, seed), strict=True):
                        if attempt == 0 or (trial.verified and trial.rank > found[i].rank):
                            found[i] = trial
                todo += [i for i in now if self._again(found[i], attempt)]
        return [found[i] for i in sorted(found)]

    def rows(self, scene: Scene, jobs: Sequence[Job], attempt: int = 0) -> int:
        """Return the rows that a try of jobs takes, at most."""
        return rows_of_try(self.drawing, self.eye, scene, jobs, attempt)

    def numbers(self, what: str, scene: Scene, run: Callable[[], Tensor], **given: Json | Tensor) -> list[float]:
        """Return numbers [n] that a step finds.

        Args:
            what: the step.
            scene: the picture.
            run: the step.
            given: everything that the step uses and that is not the same throughout an attribution; of a tensor the
                hash tells the step apart.
        """
        step = {"what": what, "image": scene.index} | {name: _keyed(value) for name, value in given.items()}
        return [*self.notes.step(step, scene, lambda: Done(run().tolist(), {})).values]

    def _again(self, trial: Trial, attempt: int) -> bool:
        """Return whether an edit is worth another try: a third one only where it surely has not appeared."""
        unsure = any(name in self.eye.unsure for name in trial.job.changes)
        return trial.failed if attempt == 0 else not (trial.verified or unsure)

    def _fitting(self, scene: Scene, jobs: Sequence[Job], attempt: int) -> int:
        """Return of how many jobs, the first ones, the budget allows a try."""
        counts = range(len(jobs), 0, -1)
        return next((n for n in counts if self.budget.allows(self.rows(scene, jobs[:n], attempt))), 0)

    def _kept(self, scene: Scene, jobs: Sequence[Job], beside: Sequence[Job]) -> int:
        """Return of how many jobs the budget allows a first try and the redraws, and keep the rows of these back."""
        before = dict(self.budget.kept)
        for n in range(len(jobs), 0, -1):
            self.budget.kept = before | {scene.index: redraw_rows(self.drawing, scene, [*beside, *jobs[:n]])}
            if self.budget.allows(self.rows(scene, jobs[:n])):
                return n
        if before:
            self.budget.kept = before
            return 0
        self.budget.kept = {scene.index: 0}
        return self._fitting(scene, jobs[:1], 0)

    def _once(self, scene: Scene, jobs: Sequence[Job], attempt: int, seed: int) -> list[Trial]:
        names: list[Json] = [list(job.names) for job in jobs]
        key = {"what": "trials", "image": scene.index, "attempt": attempt, "seed": seed, "concepts": names}
        return unpacked(self.notes.step(key, scene, lambda: packed(self._drawn(scene, jobs, attempt, seed))), jobs)

    def _drawn(self, scene: Scene, jobs: Sequence[Job], attempt: int, seed: int) -> list[Trial]:
        drawn = self.drawing.draw(scene, jobs, attempt, seed)
        verdicts = self.eye.check(scene, jobs, drawn.pixels)
        return measured(jobs, drawn, verdicts, self.answers.ask(drawn.before), self.answers.ask(drawn.pixels))


def _keyed(value: Json | Tensor) -> Json:
    return hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest() if isinstance(value, Tensor) else value
