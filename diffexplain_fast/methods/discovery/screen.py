"""Many free words are screened in a few pictures each; those with the largest effects are tried on fresh pictures."""

from collections.abc import Callable

import numpy as np

from diffexplain_fast.evidence.concepts import WORD, Concepts
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.plan import screen_plan
from diffexplain_fast.methods.discovery.trial import measured
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import JsonObject
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.regression import least_squares
from diffexplain_fast.stats.unit_scores import deviation

MOST = 200
"""Free words up to which none is screened."""
EACH = 12
"""Pictures of a word in the screening."""
KEPT = 64
"""Words that are tried on fresh pictures, beside those that are declared a class's own."""


def screened(
    pool: Pool,
    readout: Readout,
    concepts: Concepts,
    phrases: Phrases,
    seed: int,
    report: Callable[[int, int], None],
) -> tuple[Concepts, JsonObject]:
    """Return the concepts that a trial asks for, and what became of the others.

    The effects of the screening are the largest of many, so none of them is reported; the pictures of the trial have
    start latents of their own.

    Args:
        pool: draws and keeps pictures.
        readout: the classifier and its targets.
        concepts: what is asked for.
        phrases: how it is said.
        seed: of the captions.
        report: receives pictures that are there and pictures that are wanted.

    Returns:
        The same concepts and nothing, for at most 200 free words; else the groups with the chosen words, and a record.
    """
    if len(concepts.words) <= MOST:
        return concepts, {}
    plan = screen_plan(concepts, phrases, pool.pipeline, EACH, seed)
    values = measured(pool, plan, readout, None, 0, len(plan.captions), report).values
    declared = {name for part in (concepts.core, concepts.similar) for named in part.values() for name in named}
    own = [f"{WORD}:{word}" in declared for word in concepts.words]
    places = strongest(plan.asked, values, KEPT, np.array(own))
    words = [concepts.words[place] for place in places]
    record: JsonObject = {"words": len(concepts.words), "pictures": len(plan.captions), "kept": words}
    return concepts.with_words(words), record


def longest(concepts: Concepts, pipeline: Pipeline) -> Concepts:
    """Return concepts as a trial may ask for them after a screening, with the words that make the longest captions.

    Args:
        concepts: what is asked for.
        pipeline: its tokenizer says how long a word is.
    """
    if len(concepts.words) <= MOST:
        return concepts
    size = {word: len(pipeline.token_embeddings(word)) for word in concepts.words}
    return concepts.with_words(sorted(concepts.words, key=lambda word: -size[word])[:KEPT])


def strongest(asked: Asked, values: np.ndarray, count: int, always: np.ndarray) -> list[int]:
    """Return the numbers of the words with the largest effects on any target, in their order.

    Args:
        asked: what the captions ask for; free words only.
        values: of the targets, float [pictures, targets].
        count: how many.
        always: bool [words], words that are taken beside these.
    """
    means = least_squares(asked.design, asked.levels, values).means
    effects = means[1::2] - means[::2]  # there, minus not there
    spread = deviation(values)
    merit = np.nan_to_num(np.where(spread > 0, np.abs(effects) / np.where(spread > 0, spread, 1.0), 0.0)).max(1)
    best = np.argsort(-merit, kind="stable")[:count]
    return sorted({*best.tolist(), *np.flatnonzero(always).tolist()})
