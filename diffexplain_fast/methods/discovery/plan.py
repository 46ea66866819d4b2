"""Which captions a trial draws: a balanced design of the concepts, said in several phrasings."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from diffexplain_fast.evidence.concepts import WORD, Concepts
from diffexplain_fast.evidence.phrases import Phrases, check_captions, reworded
from diffexplain_fast.methods.discovery.weights import Shares, picture_weights
from diffexplain_fast.methods.discovery.wording import synonyms_in, words_said
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import BLOCK, LEFT_OUT, bag_design, balanced_design

BAG = 4
"""Free words of one caption, at most."""
CONTEXT = "context"
"""Stage of the pictures that serve every class."""


@dataclass(frozen=True)
class Plan:
    """The captions of one stage of a trial.

    Attributes:
        stage: name of the stage in the pool.
        captions: one for every picture.
        asked: what they ask for.
        phrasing: int64 [pictures].
        words: int64 [pictures, groups], the word's number in its group, see ``Concepts.words_of``; -1 where left out.
    """

    stage: str
    captions: tuple[str, ...]
    asked: Asked
    phrasing: np.ndarray
    words: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def and_more(self, more: Mapping[int, "Plan"]) -> "Plan":
        """Return these captions and then others that all ask for one concept, see ``Asked.and_more``."""
        parts = [self, *more.values()]
        captions = tuple(caption for part in parts for caption in part.captions)
        asked = self.asked.and_more({place: part.asked for place, part in more.items()})
        phrasing, words = (np.concatenate([getattr(one, name) for one in parts]) for name in ("phrasing", "words"))
        return replace(self, captions=captions, asked=asked, phrasing=phrasing, words=words)

    def first(self, pictures: int) -> "Plan":
        """Return the plan of the first pictures only."""
        part = slice(0, pictures)
        return replace(
            self,
            captions=self.captions[part],
            asked=self.asked.part(part),
            phrasing=self.phrasing[part],
            words=self.words[part],
        )


def context_plan(
    concepts: Concepts, phrases: Phrases, pipeline: Pipeline, pictures: int, seed: int, shares: Shares | None = None
) -> Plan:
    """Return the captions that serve every class.

    Args:
        concepts: what is asked for.
        phrases: how it is said.
        pipeline: draws the pictures; a caption that it would truncate is refused.
        pictures: how many are wanted at most; there are captions for whole blocks.
        seed: the same seed gives the same captions.
        shares: a user's distribution of concepts, which the pictures are re-weighted for; None for a uniform one.
    """
    return _plan(CONTEXT, concepts, phrases, pipeline, pictures, seed, {}, shares)


def screen_plan(concepts: Concepts, phrases: Phrases, pipeline: Pipeline, each: int, seed: int) -> Plan:
    """Return captions that ask for the free words only, each in about so many pictures, for a screening.

    Args:
        concepts, phrases, pipeline, seed: see ``context_plan``; only free words are asked for.
        each: pictures of a word.
    """
    size = min(BAG, len(concepts.words))
    pictures = -(-each * (len(concepts.words) + size) // size)
    return _plan("screen", Concepts(words=concepts.words), phrases, pipeline, pictures, seed, {}, None)


def own_plan(
    concepts: Concepts,
    phrases: Phrases,
    pipeline: Pipeline,
    pictures: int,
    seed: int,
    own: tuple[str, str],
    shares: Shares | None = None,
) -> Plan:
    """Return captions that ask for the object of one class in every picture.

    Args:
        concepts, phrases, pipeline, pictures, seed, shares: see ``context_plan``.
        own: group and name of the object, which may be a group and value of the concepts, or a free word.
    """
    name = hashlib.sha256("/".join(own).encode()).hexdigest()[:12]
    return _plan(f"own-{name}", concepts, phrases, pipeline, pictures, seed + int(name, 16), dict([own]), shares)


def _plan(
    stage: str,
    concepts: Concepts,
    phrases: Phrases,
    pipeline: Pipeline,
    pictures: int,
    seed: int,
    own: dict[str, str],
    shares: Shares | None,
) -> Plan:
    count = -(-pictures // BLOCK) * BLOCK
    groups, words = list(concepts.groups.items()), list(concepts.words)
    grouped = np.zeros((count, 0), dtype=np.int64)
    if groups:
        grouped = balanced_design([len(values) for _, values in groups], count, seed, None if phrases.silent else 0.0)
    for column, (name, values) in enumerate(groups):
        if name in own:
            grouped[:, column] = values.index(own[name]) if own[name] in values else LEFT_OUT
    bags = np.zeros((count, 0), dtype=bool)
    if words:
        size = max(1, min(BAG, len(words)) - (WORD in own))
        # Some places of a bag stay empty: in bags of one size a word is there only instead of another word.
        bags = bag_design(len(words) + size, size, count, seed)[:, : len(words)]
        bags[:, [place for place, word in enumerate(words) if word == own.get(WORD)]] = True
    phrasing = np.concatenate([_phrasings(phrases.count, seed, block) for block in range(count // BLOCK)])
    captions, said = [], words_said(concepts, grouped, seed)
    for picture, (row, bag, number) in enumerate(zip(grouped, bags, phrasing.tolist(), strict=True)):
        scene = {name: value for name, value in own.items() if name != WORD}
        scene |= {name: values[v] for (name, values), v in zip(groups, row.tolist(), strict=True) if v != LEFT_OUT}
        text = phrases.say(scene, [word for word, there in zip(words, bag, strict=True) if there], number)
        captions.append(reworded(text, synonyms_in(concepts, said[picture])))
    check_captions(captions, pipeline)
    levels = (*(len(values) for _, values in groups), *(2,) * len(words))
    design = np.concatenate([grouped, bags.astype(np.int64)], 1)
    weights = picture_weights(shares, concepts, design)
    return Plan(stage, tuple(captions), Asked(design, levels, len(groups), weights), phrasing, said)


def _phrasings(count: int, seed: int, block: int) -> np.ndarray:
    """Return the phrasings of a block, each equally often, in an order of their own."""
    return np.random.default_rng([seed, block]).permutation(np.arange(BLOCK) % count)
