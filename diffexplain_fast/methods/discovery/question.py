"""What an audit asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.evidence.calibration import Sight
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.generator import Aside
from diffexplain_fast.methods.discovery.weights import Shares, shares_of


class Found(NamedTuple):
    """What an explanation found.

    Attributes:
        soft: token embeddings [n, d] of the whole prompt, those of a prefix first.
        words: the words of the prefix, and the vocabulary words nearest to the other tokens.
        optimism: by how much the search's own pictures scored higher than unseen ones; None where that is not known.
    """

    soft: Tensor
    words: list[str]
    optimism: float | None


@dataclass(frozen=True)
class Question:
    """What an audit asks.

    Attributes:
        pool: draws and keeps pictures.
        readout: the classifier and its targets.
        concepts: what is asked for.
        phrases: how it is said.
        sight: sees concepts in pictures; None for none.
        seed: of the captions; the start latents follow from the pool's own.
        aside: classifiers with measured truth, which tell the generator's error.
        weights: the user's distribution of concepts, as given; None for a uniform one.
        found: place of a target to what an explanation found for it.
    """

    pool: Pool
    readout: Readout
    concepts: Concepts
    phrases: Phrases
    sight: Sight | None
    seed: int
    aside: Aside = ()
    weights: object = None
    found: Mapping[int, Found] = field(default_factory=dict)

    @property
    def shares(self) -> Shares | None:
        """The user's distribution, checked and completed."""
        return shares_of(self.weights, self.concepts)

    def among(self, left: Concepts) -> "Question":
        """Return the question for some of its concepts: all groups, and some of the free words.

        Args:
            left: what is left of the concepts.
        """
        sight = None if self.sight is None else self.sight.among(self.concepts, left)
        return replace(self, concepts=left, sight=sight)
