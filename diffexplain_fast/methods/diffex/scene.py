"""One picture that is edited: its pixels, caption and latent, and what is changed in it at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.editing.inversion import Inversion
from diffexplain_fast.evidence.shipped import Wording
from diffexplain_fast.methods.diffex.phrases import said_by
from diffexplain_fast.taxonomy import Concept

Noted = tuple[str, int, int, tuple[float, ...]]
"""Caption, number of steps, seed and guidance of an inversion."""
Read = dict[str, str | None]
"""Slot to the word that a verifier sees of it; None for none."""


class Job(NamedTuple):
    """What is changed at once.

    Attributes:
        concepts: that the picture is to show.
        changes: slot to word, of those concepts, as far as the picture does not show them; see ``phrases.said_by``.
        caption: of the picture as it is to be.
    """

    concepts: tuple[Concept, ...]
    changes: dict[str, str]
    caption: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the concepts."""
        return tuple(concept.name for concept in self.concepts)


@dataclass
class Scene:
    """A picture with all that is computed of it once.

    Attributes:
        index: number of the picture.
        pixels: [1, 3, H, W].
        caption: as it is.
        said: slot to word, of the caption.
        clean: latent [1, c, h, w].
        decoded: what the autoencoder makes of the picture [1, 3, H, W].
        inversions: by caption, number of steps, seed and guidance.
        behind: the picture [3, H, W] without the thing of a category, by the category.
        regions: where words are in the picture [1, 1, H, W], by the text that asks for them.
        read: what the verifier sees in the picture as the autoencoder gives it; None before it has looked.
    """

    index: int
    pixels: Tensor
    caption: str
    said: dict[str, str]
    clean: Tensor
    decoded: Tensor
    inversions: dict[Noted, Inversion] = field(default_factory=dict)
    behind: dict[str, Tensor] = field(default_factory=dict)
    regions: dict[str, Tensor] = field(default_factory=dict)
    read: Read | None = None


class Pictures(NamedTuple):
    """Edited pictures of one scene.

    Attributes:
        pixels: [B, 3, H, W], the user's own outside of the masks.
        before: [B, 3, H, W], the picture through the autoencoder inside of the same masks: the baseline of an effect.
        editors: B names.
        masks: bool [B, 1, H, W].
    """

    pixels: Tensor
    before: Tensor
    editors: list[str]
    masks: Tensor


def same_word(one: str | None, other: str | None) -> bool:
    """Return whether two words are the same one apart from capitals; None is no word."""
    return one == other or (one is not None and other is not None and one.casefold() == other.casefold())


def shows(scene: Scene, concept: Concept, wording: Wording) -> bool:
    """Return whether the caption of a scene says all of a concept already."""
    return not _new(scene, said_by(concept, wording))


def job_of(scene: Scene, concepts: tuple[Concept, ...], wording: Wording) -> Job | None:
    """Return the job of showing concepts, None where the caption says one already or cannot say them.

    Of a phrase only those words are a change that the caption does not say. It has to be able to say each of them
    beside the others: the colour of a thing is said where the same phrase brings the thing, and never of an empty
    place. So what an edit is called is what it is asked for.
    """
    said = [said_by(concept, wording) for concept in concepts]
    if len({slot for one in said for slot in one}) < sum(map(len, said)):
        return None
    changes: dict[str, str] = {}
    for one in said:
        new = _new(scene, one)
        if not new or not _says_each(scene.caption, new, wording):
            return None
        changes |= new
    return Job(concepts, changes, wording.changed(scene.caption, changes))


def _new(scene: Scene, said: Mapping[str, str]) -> dict[str, str]:
    """Return what of a concept the caption of a scene does not say."""
    return {slot: word for slot, word in said.items() if not same_word(scene.said.get(slot), word)}


def _says_each(caption: str, changes: Mapping[str, str], wording: Wording) -> bool:
    """Return whether each change makes a difference to a caption that has all the others."""
    whole = wording.changed(caption, changes)
    rests = ({other: word for other, word in changes.items() if other != slot} for slot in changes)
    return all(wording.changed(caption, rest) != whole for rest in rests)
