"""Many concepts are screened by quick edits, and only those that look strongest are edited in full."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.costs import redraw_rows, rows_of_screening
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.work import Work
from diffexplain_fast.records import Json

SCREENED_ABOVE, FINALISTS, ONE_IN = 40, 10, 10
"""Above so many concepts all are screened, and so many of them are edited in full, of many one in so many."""
AT_ONCE = 32
"""Pictures of quick edits that are held at once."""


def finalists(lab: Lab, work: Work, jobs: list[Job]) -> list[Job]:
    """Return the jobs that are edited in full: all of a few, of many those that a quick edit finds strongest.

    They come in the order of their strength, so that a budget leaves out the weakest; what the screening finds of all
    jobs is noted in the work. Where it would leave no rows for one edit with its errors, nothing is screened.
    """
    if len(jobs) <= SCREENED_ABOVE:
        return jobs
    one = max(lab.rows(work.scene, [job]) + redraw_rows(lab.drawing, work.scene, [job]) for job in jobs)
    if not lab.budget.allows(rows_of_screening(lab.drawing, jobs, AT_ONCE) + one):
        return jobs

    def quick() -> Tensor:
        return torch.cat([_sizes(lab, work, jobs[i : i + AT_ONCE]) for i in range(0, len(jobs), AT_ONCE)])

    names: list[Json] = [job.names[0] for job in jobs]
    sizes = lab.numbers("screening", work.scene, quick, concepts=names)
    work.screened = {jobs[i].names[0]: sizes[i] for i in by_strength(sizes)}
    return [jobs[i] for i in strongest(sizes)]


def by_strength(sizes: Sequence[float]) -> list[int]:
    """Return the places of effects of quick edits, the largest effect of either sign first."""
    return sorted(range(len(sizes)), key=lambda i: -abs(sizes[i]))


def strongest(sizes: Sequence[float]) -> list[int]:
    """Return the places of the concepts that are edited in full, by the effects of their quick edits."""
    return by_strength(sizes)[: finalists_of(len(sizes))]


def finalists_of(concepts: int) -> int:
    """Return how many of so many concepts are edited in full: among more leaves more are stronger by chance."""
    return max(FINALISTS, concepts // ONE_IN)


def expected_rows(lab: Lab, scene: Scene, jobs: list[Job]) -> int:
    """Return about how many rows the edits of jobs take."""
    if len(jobs) <= SCREENED_ABOVE:
        return lab.rows(scene, jobs)
    return rows_of_screening(lab.drawing, jobs, AT_ONCE) + lab.rows(scene, jobs[: finalists_of(len(jobs))])


def _sizes(lab: Lab, work: Work, jobs: list[Job]) -> Tensor:
    drawn = lab.drawing.quick(work.scene, jobs)
    return lab.answers.ask(drawn.pixels).value - lab.answers.ask(drawn.before).value
