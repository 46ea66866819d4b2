"""What a concept says of a picture: one word, or in a phrase that the captions' wording reads several at once."""

from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.kinds import slot_of
from diffexplain_fast.taxonomy import Concept


def said_by(concept: Concept, wording: Wording) -> dict[str, str]:
    """Return what a concept says: slot to word; see ``kinds.slot_of``.

    Args:
        concept: a leaf, whose word may be a phrase such as "blue striped", which says a colour and a texture.
        wording: of the captions.
    """
    return wording.parts(concept.word) or {slot_of(concept): concept.word}
