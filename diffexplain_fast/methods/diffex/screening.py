"""Many concepts are screened by quick edits, and only those that look strongest are edited in full."""

import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.costs import redraw_rows, rows_of_screening
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.work import Work
from diffexplain_fast.records import Json

SCREENED_ABOVE, FINALISTS = 40, 10
"""Above so many concepts all are screened, and so many of them are edited in full."""
_AT_ONCE = 32
"""Pictures of quick edits that are held at once."""


def finalists(lab: Lab, work: Work, jobs: list[Job]) -> list[Job]:
    """Return the jobs that are edited in full: all of a few, of many those that a quick edit finds strongest.

    They come in the order of their strength, so that a budget leaves out the weakest; what the screening finds of all
    jobs is noted in the work. Where it would leave no rows for one edit with its errors, nothing is screened.
    """
    if len(jobs) <= SCREENED_ABOVE:
        return jobs
    one = max(lab.rows(work.scene, [job]) + redraw_rows(lab.drawing, work.scene, [job]) for job in jobs)
    if not lab.budget.allows(rows_of_screening(lab.drawing, jobs, _AT_ONCE) + one):
        return jobs

    def quick() -> Tensor:
        return torch.cat([_sizes(lab, work, jobs[i : i + _AT_ONCE]) for i in range(0, len(jobs), _AT_ONCE)])

    names: list[Json] = [job.names[0] for job in jobs]
    sizes = lab.numbers("screening", work.scene, quick, concepts=names)
    order = sorted(range(len(jobs)), key=lambda i: -abs(sizes[i]))
    work.screened = {jobs[i].names[0]: sizes[i] for i in order}
    return [jobs[i] for i in order[:FINALISTS]]


def expected_rows(lab: Lab, scene: Scene, jobs: list[Job]) -> int:
    """Return about how many rows the edits of jobs take."""
    if len(jobs) <= SCREENED_ABOVE:
        return lab.rows(scene, jobs)
    return rows_of_screening(lab.drawing, jobs, _AT_ONCE) + lab.rows(scene, jobs[:FINALISTS])


def _sizes(lab: Lab, work: Work, jobs: list[Job]) -> Tensor:
    drawn = lab.drawing.quick(work.scene, jobs)
    return lab.answers.ask(drawn.pixels).value - lab.answers.ask(drawn.before).value
