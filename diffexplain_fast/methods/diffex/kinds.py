"""Which editor suits which kind of semantics, and where in the picture it acts."""

from collections.abc import Iterable
from typing import NamedTuple

from diffexplain_fast.records import JsonObject
from diffexplain_fast.taxonomy import Concept, usual_name

SWAP, STRONGER, INPAINT, GUIDE = "swap", "stronger swap", "inpaint", "guide"
GUIDED, EARLY, LATE, LONG = "guided swap", "early guided swap", "late guided swap", "long guided swap"
STEPS = {SWAP: 8, STRONGER: 8, GUIDED: 8, EARLY: 8, LATE: 8, LONG: 8, INPAINT: 5, GUIDE: 8}
"""Steps of an edit, by editor."""
GUIDANCE: dict[str, tuple[float, ...]] = {
    GUIDED: (3.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0),
    EARLY: (4.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    LATE: (1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0),
    LONG: (3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0),
}
"""Of the steps of guided swaps: the noisiest decide what is drawn, the first two what is behind it, and the last ones
its surface. Where few latents are drawn, or four guided steps have failed, six are guided."""
QUICK_STEPS = 3
"""Of the quick version of an edit, which is enough to rank many concepts and shows none of them well."""
QUICK_GUIDANCE: dict[str, tuple[float, ...]] = {GUIDED: (3.0, 1.0, 1.0), EARLY: (4.0, 1.0, 1.0), LATE: (1.0, 1.0, 5.0)}
"""Of the steps of quick guided swaps."""
STRENGTH = 1.5
"""Of a stronger swap."""
SMALL = 16
"""Latents below which a thing is small: four guided steps draw another one in its place in 86 %, six in 94 %."""
GROW = 2
"""Latents by which a region that is drawn anew is grown, and pixels by which one that is pasted is."""
EDITORS = ("auto", "swap", "inpaint", "guide")
"""What a caller may ask for; "auto" chooses by kind and tries another one where an edit fails."""
TRIES = 3


class Kind(NamedTuple):
    """How a category is edited.

    Attributes:
        tries: editors of its three tries.
        parts: categories whose regions, in the picture and in the edited one, are changed; () for the whole picture.
        outside: whether everything outside those regions is changed instead.
        moves: whether the thing itself stays what it is, so that its own pixels can be moved.
        resizes: whether it stays what it is in another size, so that its own pixels serve where it gets smaller.
    """

    tries: tuple[str, str, str] = (SWAP, SWAP, STRONGER)
    parts: tuple[str, ...] = ()
    outside: bool = False
    moves: bool = False
    resizes: bool = False


_DRAWN, _DRAWN_SMALL = (GUIDED, LONG, INPAINT), (LONG, LONG, INPAINT)
_SURFACE = (LATE, LATE, INPAINT)
KINDS = {
    "background": Kind((EARLY, GUIDED, INPAINT), ("object", "companion"), outside=True),
    "colour": Kind(parts=("object",)),
    "texture": Kind(_SURFACE, ("object",)),
    "object": Kind(_DRAWN, ("object",)),
    "companion": Kind((SWAP, INPAINT, INPAINT), ("companion",)),
    "size": Kind(_DRAWN, ("object",), resizes=True),
    "place": Kind((SWAP, GUIDED, INPAINT), ("object",), moves=True),
}
"""By the name of the category; any other one is a swap of the whole picture."""


def kind_of(category: str) -> Kind:
    """Return how a category is edited, by its name."""
    return KINDS.get(usual_name(category), Kind())


def slot_of(concept: Concept) -> str:
    """Return the name of what a concept is a value of: a caption says one value of it, which another one replaces.

    That is the usual name of a category that has a kind, however deep its values lie, because a picture has one
    background; and of any other category the node above the value: "face:hair" of brown hair, which replaces blond hair
    and not blue eyes. A concept without a category has a name of its own.
    """
    usual = usual_name(concept.category)
    return usual if usual in KINDS else ":".join(concept.path[:-1] or ("", concept.word))


def editor_for(categories: tuple[str, ...], attempt: int, asked: str, with_regions: bool, small: bool = False) -> str:
    """Return the editor of one try: that of the kind; of several a swap, or a guided one where that draws them better.

    With a background that is an early guided swap. A thing and its surface are drawn together, by the thing's editor.

    Args:
        categories: that are changed together.
        attempt: 0, 1 or 2.
        asked: one of ``EDITORS``.
        with_regions: whether there is a segmenter, without which nothing can be inpainted.
        small: whether the thing that is drawn anew covers less than ``SMALL`` latents.
    """
    if asked != "auto":
        return asked
    kinds = [kind_of(category).tries for category in categories]
    if _DRAWN in kinds:
        kinds = [_DRAWN if kind == _SURFACE else kind for kind in kinds]
    mixed = (EARLY if any(kind[0] == EARLY for kind in kinds) else SWAP, GUIDED, STRONGER)
    tries = kinds[0] if all(kind == kinds[0] for kind in kinds) else mixed
    found = (_DRAWN_SMALL if small and tries == _DRAWN else tries)[attempt]
    return found if with_regions or found != INPAINT else (SWAP, SWAP, STRONGER)[attempt]


def behind_of(part: str) -> str:
    """Return the editor that draws a picture without the thing of a category: that of the first try of its kind."""
    return kind_of(part).tries[0]


def place_of(categories: Iterable[str]) -> str:
    """Return where categories act, as a name: the same one for all that act on the same things; "" for everywhere."""
    kinds = [kind_of(category) for category in categories]
    return "; ".join(sorted({("all but " if kind.outside else "") + " and ".join(kind.parts) for kind in kinds}))


def editors_record() -> JsonObject:
    """Return all constants of the editors, which decide what an edit is; JSON values."""
    kinds: JsonObject = {name: [list(kind.tries), list(kind.parts), *kind[2:]] for name, kind in KINDS.items()}
    numbers: JsonObject = {"strength": STRENGTH, "grow": GROW, "small": SMALL}
    return numbers | {
        "steps": dict(STEPS),
        "guidance": {name: list(scales) for name, scales in GUIDANCE.items()},
        "quick": {"steps": QUICK_STEPS, **{name: list(scales) for name, scales in QUICK_GUIDANCE.items()}},
        "kinds": kinds,
    }


def steps_of(editor: str, quick: bool = False) -> tuple[int, tuple[float, ...]]:
    """Return the number of an editor's steps and their scales of guidance, () for none."""
    if quick:
        return QUICK_STEPS, QUICK_GUIDANCE.get(editor, ())
    return STEPS[editor], GUIDANCE.get(editor, ())


def calls_of(editor: str, quick: bool = False) -> int:
    """Return how often an edit asks the denoiser, without its inversion: its rows, where no batch is filled up."""
    steps, scales = steps_of(editor, quick)
    return steps * {STRONGER: 2, INPAINT: 2, GUIDE: 3}.get(editor, 1) + sum(scale != 1.0 for scale in scales)


def quick_of(editor: str) -> str:
    """Return the editor whose quick version ranks the concepts of another one: guided in its noisiest steps, if any."""
    return {STRONGER: SWAP, INPAINT: GUIDED, LONG: GUIDED}.get(editor, editor)


def null_of(editor: str) -> str:
    """Return the editor whose placebos are the null of an editor's effects."""
    return {STRONGER: SWAP, EARLY: GUIDED, LATE: GUIDED, LONG: GUIDED}.get(editor, editor)
