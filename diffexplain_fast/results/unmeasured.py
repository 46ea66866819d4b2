"""What an attribution has not measured, in sentences."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.results.effects import Edit, Row


def unmeasured_of(
    rows: Sequence[Row],
    same: Sequence[int],
    left_out: Collection[int],
    placebos: bool,
    all_shown: bool,
    judged: Sequence[Edit] = (),
) -> str:
    """Return what was not measured; "" where nothing is missing.

    Args:
        rows: of the attribution.
        same: of each picture the number of the first one that is equal to it.
        left_out: numbers of those whose errors the budget left out.
        placebos: whether there are any.
        all_shown: whether every picture shows all concepts already.
        judged: the edits that may have changed a decision; see ``judged_of``.
    """
    edited = [row for row in rows if not row.screened]
    flat = {row.image for row in edited if math.isinf(row.high) and row.image not in left_out}
    by_concept = Counter(name for name, _ in {(row.concept, same[row.image]) for row in edited})
    several = max(by_concept.values(), default=0) > 1
    screened, untold = len(rows) - len(edited), sum(edit.flipped is None for edit in judged)
    said = {
        "Nothing was edited: every picture shows all concepts already.": all_shown,
        f"The budget ended before the errors of edits were measured on {len(left_out)} of {len(same)} pictures.": bool(
            left_out
        ),
        f"On {len(flat)} of {len(same)} pictures drawing a region anew did not move the score, "
        "or by next to nothing beside an effect: how far such edits err is not known.": bool(flat),
        f"Of {len(rows)} changes of a picture {screened} were screened only, not edited: "
        "their effects are rough and not checked, and how far they err is not known.": bool(screened),
        f"Of {len(judged)} verified edits of recognised pictures {untold} cannot tell whether they change the "
        "decision, and count for none: in the region of the edit the autoencoder alone makes it leave the "
        "target.": bool(untold),
        "No placebo was made: p-values over pictures come from Student's test and the errors of edits alone.": several
        and not placebos,
    }
    return " ".join(sentence for sentence, true in said.items() if true)


def judged_of(found: Mapping[int, Sequence[Edit]], recognised: Collection[int] | None) -> list[Edit]:
    """Return the verified edits of the pictures that the classifier recognises; none where nobody has kept which.

    Args:
        found: edited pictures by number of the picture.
        recognised: numbers of those pictures; None where nobody has kept them.
    """
    edits = [edit for image in recognised or () for edit in found.get(image, ())]
    return [edit for edit in edits if edit.verified and edit.points is not None]


def left_out_of(
    rows: Sequence[Row], shown: Sequence[Collection[str]] | None, names: Sequence[str], settings: JsonObject
) -> str:
    """Return what a budget left out, in a sentence; "" where it was enough.

    Args:
        rows: of the attribution.
        shown: of each picture the names of the concepts that it shows already; None where nobody has kept them.
        names: of all concepts.
        settings: of the attribution.
    """
    if not settings.get("budget_used_up"):
        return ""
    unsaid = {name for key in ("captions_too_long", "captions_cannot_say") for name in _names(settings.get(key))}
    made = {(row.image, row.concept) for row in rows}
    missing = sum(
        name not in some and (i, name) not in made and f"{name} on picture {i + 1}" not in unsaid
        for i, some in enumerate(shown or ())
        for name in names
    )
    if not missing:
        return "The budget was used up: tries, pairs or placebos may be missing."
    whole = missing + len(rows)
    return (
        f"The budget left out {missing} of {whole} changes of a picture; tries, pairs and placebos may be missing too."
    )


def _names(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
