"""What drawing and checking cost, in rows of the denoiser: never fewer than are run, so that a budget is a limit.

A batch that is filled up costs as many rows as it is filled up to; see ``LatentModels.counted``.
"""

from collections.abc import Sequence

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.methods.diffex import kinds
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.errors_at import has_redraws, place_at, redraws_at
from diffexplain_fast.methods.diffex.eyes import Eye
from diffexplain_fast.methods.diffex.scene import Job, Scene


def rows_of_try(drawing: Drawing, eye: Eye, scene: Scene, jobs: Sequence[Job], attempt: int) -> int:
    """Return the rows of a try of jobs, with an inversion for each editor and a check of each edit.

    What is behind a thing that is moved, or put before a new background, is a drawing too.
    """
    models, behind = drawing.models, [kinds.behind_of(part) for part in drawing.taken_out(scene, jobs)]
    behind_rows = sum(_edits(models, [editor]) for editor in behind) + _before(models, behind)
    return _rows(models, [drawing.editor(scene, job, attempt) for job in jobs]) + behind_rows + eye.rows(len(jobs))


def rows_of_screening(drawing: Drawing, jobs: Sequence[Job], at_once: int) -> int:
    """Return the rows of the quick edits of jobs, with an inversion for each editor.

    Args:
        drawing: runs editors.
        jobs: any number.
        at_once: jobs of one call.
    """
    editors = [drawing.quick_editor(job) for job in jobs]
    shared = _before(drawing.models, editors, quick=True)
    parts = [editors[i : i + at_once] for i in range(0, len(editors), at_once)]
    return shared + sum(_edits(drawing.models, part, quick=True) for part in parts)


def rows_of_placebo(models: LatentModels, editor: str) -> int:
    """Return the rows of one placebo, which has an inversion of its own."""
    return _rows(models, [editor])


def rows_of_redraws(models: LatentModels, count: int) -> int:
    """Return the rows of so many regions that are drawn anew at once."""
    return _edits(models, [kinds.INPAINT] * count)


def redraw_rows(drawing: Drawing, scene: Scene, jobs: Sequence[Job]) -> int:
    """Return the rows of all redraws of a picture.

    Args:
        drawing: runs editors.
        scene: the picture.
        jobs: one for each of its edits.
    """
    regions = drawing.regions
    counts = redraws_at([place_at(regions, scene, job) for job in jobs])
    drawn = [count for place, count in counts.items() if has_redraws(regions, place)]
    return sum(rows_of_redraws(drawing.models, count) for count in drawn)


def _rows(models: LatentModels, editors: Sequence[str]) -> int:
    return _edits(models, editors) + _before(models, editors)


def _edits(models: LatentModels, editors: Sequence[str], quick: bool = False) -> int:
    """Return the rows of edits, those of one editor in common batches, without inversions."""
    counts = {editor: editors.count(editor) for editor in editors}
    return sum(kinds.calls_of(editor, quick) * models.counted(count) for editor, count in counts.items())


def _before(models: LatentModels, editors: Sequence[str], quick: bool = False) -> int:
    """Return the rows of the inversions of editors: one for all swaps, and what the guidance of each adds."""
    known = {editor: kinds.steps_of(editor, quick) for editor in editors if editor != kinds.INPAINT}
    plain = {(editor == kinds.GUIDE, steps) for editor, (steps, _) in known.items()}
    guided = {scales for _, scales in known.values()}
    return sum(models.counted(steps) for _, steps in plain) + sum(
        models.counted(sum(scale != 1.0 for scale in scales)) for scales in guided
    )
