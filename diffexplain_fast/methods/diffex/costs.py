"""What drawing costs, in rows of the denoiser."""

from collections.abc import Sequence

from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.kinds import GUIDED, quick_of, quick_rows, rows_before, rows_of
from diffexplain_fast.methods.diffex.scene import Job


def rows_of_try(drawing: Drawing, jobs: Sequence[Job], attempt: int) -> int:
    """Return about how many rows a try of jobs takes, with an inversion for each editor.

    What is behind a thing that is moved is a drawing too.
    """
    editors = [drawing.editor(job, attempt) for job in jobs] + [GUIDED] * any(map(drawing.moves, jobs))
    return sum(map(rows_of, editors)) + sum(map(rows_before, dict.fromkeys(editors)))


def rows_of_screening(drawing: Drawing, jobs: Sequence[Job]) -> int:
    """Return how many rows the quick edits of jobs take, with an inversion for each editor."""
    editors = [quick_of(drawing.editor(job, 0)) for job in jobs]
    shared = sum(quick_rows(editor)[1] for editor in dict.fromkeys(editors))
    return sum(quick_rows(editor)[0] for editor in editors) + shared
