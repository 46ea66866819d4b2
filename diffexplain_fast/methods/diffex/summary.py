"""Trials become rows, and rows become effects over all pictures."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from diffexplain_fast.methods.diffex.error_of_edit import Null, null_for
from diffexplain_fast.methods.diffex.kinds import null_of
from diffexplain_fast.methods.diffex.several import Measured, mean_of, once
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.results.effects import Effect, Row
from diffexplain_fast.stats.intervals import mean_interval
from diffexplain_fast.stats.placebo import adjusted_p, mixed_placebo_p


def row_of(image: int, trials: Sequence[Trial], null: Null) -> Row:
    """Return the row of one concept on one picture, from a trial of each seed.

    Seeds repeat the same edit, so their interval lacks what all of them get wrong: never narrower than the null's.
    """
    verified = [trial for trial in trials if trial.verified]
    used = verified or list(trials)
    middle = fmean(trial.effect for trial in used)
    spread = null.at(trials[0].job.names, middle).spread(*{trial.editor for trial in used}, effect=middle)
    low, high = mean_interval([trial.effect for trial in used]) or (middle, middle)
    points = fmean(trial.points for trial in used)
    return Row(
        image=image,
        concept=trials[0].job.names[0],
        effect=middle,
        low=min(low, middle - spread),
        high=max(high, middle + spread),
        success=len(verified) / len(trials),
        n=len(trials),
        effect_all=fmean(trial.effect for trial in trials),
        points=None if points != points else points,
        unchanged=fmean(not trial.verdict.changed for trial in trials),
        editor=trials[-1].editor,
    )


def screened_row(image: int, concept: str, effect: float) -> Row:
    """Return the row of a concept that was only screened by a quick edit: nobody knows how far that errs."""
    return Row(image, concept, effect, -math.inf, math.inf, None, 0, effect, None, None, "screening")


def effects_of(rows: Sequence[Row], nulls: Sequence[Null], same: Sequence[int] = ()) -> list[Effect]:
    """Return the effect of each concept over all pictures, each of which counts once; see ``several.mean_of``.

    The p-value over pictures is the largest of three, so that an effect is nothing by chance in no way: that of
    Student's test, that of the pictures' own errors, and that among the placebos of the editors that made its edits, by
    their shares; without placebos of the other two. Of a single picture it is that of the picture's null. Pictures on
    which a concept was only screened count for nothing beside those on which it was edited; without any of these
    nothing was tested, and p is 1.

    Args:
        rows: of all pictures.
        nulls: of each picture.
        same: of each picture the first one that is equal to it; () where no two are equal.
    """
    picture = same or range(len(nulls))
    edited, screened = dict[str, list[Row]](), dict[str, list[Row]]()
    for row in rows:
        (screened if row.screened else edited).setdefault(row.concept, []).append(row)
    found, p_values = [], []
    for concept, some in edited.items():
        verified = [row for row in some if row.success]
        used = verified or some
        measured = [_measured(row, picture[row.image], nulls[row.image]) for row in used]
        mean = mean_of(measured)
        null = nulls[used[0].image]
        if mean.pictures > 1:
            editors = [(picture[row.image], null_of(row.editor)) for row in used]
            p_values.append(max(mean.p, _placebo_p(mean.value, editors, null.placebos)))
        else:
            p_values.append(null.at((concept,), mean.value).p(mean.value, used[0].editor))
        pictures = [picture[row.image] for row in some]
        everything = once(pictures, [row.effect_all for row in some])
        success = once(pictures, [row.success or 0.0 for row in some])
        n = mean.pictures if verified else 0
        found.append(Effect(concept, mean.value, mean.low, mean.high, 1.0, n, everything, success))
    for concept in (name for name in screened if name not in edited):
        middle = once([picture[row.image] for row in screened[concept]], [row.effect for row in screened[concept]])
        found.append(Effect(concept, middle, -math.inf, math.inf, 1.0, 0, middle, None))
        p_values.append(1.0)
    for effect, p in zip(found, adjusted_p(p_values), strict=True):
        effect.adjusted_p = p
    return sorted(found, key=lambda effect: (effect.screened, -abs(effect.effect)))


def _measured(row: Row, picture: int, null: Null) -> Measured:
    error = null.at((row.concept,), row.effect).error(row.editor, row.effect)
    return Measured(picture, row.effect, row.low, row.high, error)


def _placebo_p(effect: float, editors: Sequence[tuple[int, str]], placebos: Mapping[str, Sequence[float]]) -> float:
    """Return how probable a mean effect over pictures is among placebos; 0 without placebos.

    Placebos belong to all pictures, so that any picture's null has the same.

    Args:
        effect: the mean.
        editors: of each edit the number of its picture, equal for equal ones, and the editor whose placebos count.
        placebos: by editor.
    """
    if not any(placebos.values()):
        return 0.0
    pictures, names = zip(*editors, strict=True)
    parts = [
        (once(pictures, [float(name == one) for name in names]), null_for(one, placebos)) for one in sorted({*names})
    ]
    return mixed_placebo_p(effect, parts)
