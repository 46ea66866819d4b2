"""What an audit asks, and the pictures of own objects that it takes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.evidence.calibration import Sight
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.generator import Aside
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.own import own_concept, spoken
from diffexplain_fast.methods.discovery.plan import Plan, context_plan, own_plan
from diffexplain_fast.methods.discovery.trial import Measured, measured
from diffexplain_fast.methods.discovery.weights import Shares, shares_of
from diffexplain_fast.records import JsonObject

OWN_GROUP = "object"
"""What a class's own object is called in a caption that names it beside the concepts."""


class Found(NamedTuple):
    """What an explanation found.

    Attributes:
        soft: token embeddings [n, d].
        words: the vocabulary words nearest to them.
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


def used_pictures(question: Question, options: AuditOptions, count: int) -> Iterator[Tensor]:
    """Yield the first pictures of the pool that serve every class, as pixels [B, 3, H, W] in [0, 1].

    Args:
        question: what is asked.
        options: how many pictures were wanted at most.
        count: how many were used.
    """
    pool = question.pool
    plan = context_plan(question.concepts, question.phrases, pool.pipeline, options.pictures, question.seed)
    for levels in pool.pictures(plan.stage, plan.captions, 0, count):
        yield pool.as_pixels(levels)


def own_pictures(
    question: Question, options: AuditOptions, report: Callable[[int, int], None]
) -> tuple[dict[int, tuple[Plan, Measured]], JsonObject]:
    """Return plan and data of pictures of own objects, by the place of the target; and what they take.

    Args:
        question: what is asked.
        options: how many pictures.
        report: receives pictures that are there and pictures that are wanted, of one class after the other.
    """
    pool, readout = question.pool, question.readout
    needed = {
        place: spoken(label)
        for place, label in enumerate(readout.labels)
        if label is not None and own_concept(question.concepts, label) is None and pool.pipeline.spells(spoken(label))
    }
    count = options.own_count(len(needed))
    need: JsonObject = {"classes": len(needed), "pictures_each": count}
    if not count:
        pictures = options.pictures // 4
        need["plan"] = f"own_pictures={pictures} draws {pictures * len(needed)} pictures more" if needed else ""
        return {}, need
    own = {}
    for place, name in needed.items():
        own_object = (OWN_GROUP, name)
        plan = own_plan(
            question.concepts, question.phrases, pool.pipeline, count, question.seed, own_object, question.shares
        ).first(count)
        own[place] = plan, measured(pool, plan, readout, None, 0, count, report)
    return own, need
