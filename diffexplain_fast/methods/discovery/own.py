"""A target's own object: which concept it is, which pictures ask for it, and what a user declares as the target's."""

from collections.abc import Mapping, Sequence

from diffexplain_fast.evidence.concept_names import folded, label_names
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import LEFT_OUT

OBJECT = "object"
"""The tiny world's group of objects."""
_BY_CHANCE = 0.9 / 8
"""Share of one object among pictures of the tiny world whose captions say none: one in ten is empty, the eight objects
share the others."""
LABEL, USER, SIMILAR = "label", "user", "similarity"


def own_concept(concepts: Concepts, label: str | None) -> int | None:
    """Return the place of the concept that is a label's own name, None where there is none.

    Args:
        concepts: of the trial.
        label: of the class, maybe with synonyms after commas, as "tench, Tinca tinca"; capitals, underscores and
            hyphens make no difference, as in "great_white_shark".
    """
    if label is None:
        return None
    names = label_names(label)
    found = [place for place, name in enumerate(concepts.names) if folded(name.partition(":")[2]) in names]
    return found[0] if found else None


def shown_by_chance(concepts: Concepts, asked: Asked) -> float:
    """Return the share of pictures of the tiny world, 0 to 1, that show an object that no caption asks for.

    Args:
        concepts: of the trial.
        asked: what the captions ask for; those that ask for another object do not show it.
    """
    if OBJECT not in concepts.groups:
        return _BY_CHANCE
    silent = asked.design[:, list(concepts.groups).index(OBJECT)] == LEFT_OUT
    return _BY_CHANCE * float(silent.mean())


def declared_by(concepts: Concepts, label: str | None, place: int) -> str | None:
    """Return what says that a concept belongs to a class: "label", "user", "similarity" of texts, or None."""
    return declarations(concepts, label)[place]


def declarations(concepts: Concepts, label: str | None) -> list[str | None]:
    """Return the same for every concept."""
    core, similar = (_declared(part, label or "") for part in (concepts.core, concepts.similar))
    found = [USER if name in core else SIMILAR if name in similar else None for name in concepts.names]
    own = own_concept(concepts, label)
    return found if own is None else [*found[:own], LABEL, *found[own + 1 :]]


def _declared(part: Mapping[str, Sequence[str]], label: str) -> Sequence[str]:
    """Return what is declared for a label as it is written, or else for one that is spoken the same."""
    alike = (named for name, named in part.items() if folded(name) == folded(label) != "")
    return part[label] if label in part else next(alike, ())
