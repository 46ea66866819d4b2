"""Our audit, and the rivals that only read words; every method is a function of a ``Subject``."""

import math

import numpy as np

from benchmarks.truth.answers import Answer, Method
from benchmarks.truth.described import Pair
from benchmarks.truth.hypotheses import hypotheses
from benchmarks.truth.looking import clip_similarity, segmentation
from benchmarks.truth.subjects import Subject
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.tinyworld.grammar import read_caption
from diffexplain_fast.tinyworld.words import OBJECTS

OURS = "audit"
_LATENTS = 2
"""Pictures of every prompt of DEXTER's test."""
_ALPHA = 0.05


def audit(subject: Subject) -> dict[str, Answer]:
    """Our randomised trial through the prompt, with its default settings."""
    found = subject.explainer.audit(pool=subject.folder)
    return {label: _answer(found, label) for label in OBJECTS}


def _answer(found: Audit, label: str) -> Answer:
    rows = [row for row in found.rows if row.target == label]
    kinds = {"or": 1.0, "and": _ALPHA}  # as its verdicts take them
    pairs = [
        pair for pair in found.interactions if pair.target == label and pair.adjusted_p <= kinds.get(pair.kind, -1.0)
    ]
    return Answer(
        scores=[row.effect for row in rows],
        named=[row.concept for row in rows if row.finding],
        pairs=[Pair(pair.concept_a, pair.concept_b, pair.kind, round(float(pair.effect), 4)) for pair in pairs],
        low=[_finite(row.low) for row in rows],
        high=[_finite(row.high) for row in rows],
        undecided=[row.concept for row in rows if row.role == "undecided"],
        verdict=found.verdicts[label].kind,
    )


def _finite(end: float) -> float:
    """Return an end of an interval as JSON can hold it: no effect is as large as a thousand logits."""
    return float(end) if math.isfinite(end) else math.copysign(1000.0, end)


def class_name(subject: Subject) -> dict[str, Answer]:
    """The words of the class's name: what somebody expects who looks at nothing."""
    names = subject.concepts.names
    found = {}
    for label in OBJECTS:
        own = [name for name in names if name == f"object:{label}"]
        found[label] = Answer([float(name in own) for name in names], own)
    return found


def nearest_words(subject: Subject) -> dict[str, Answer]:
    """The nearest words of the soft prompt that explains the class.

    A word that stands for several values, such as "warm", names each of them, and counts the less.

    Source: DiffExplainer (arXiv 2404.02618).
    """
    names, found = subject.concepts.names, {}
    for label in subject.labels:
        weights: dict[str, float] = {}
        for token in subject.explanation(label).words:
            for group, values in read_caption(token[0].word if token else "").items():
                for value in values:
                    concept = f"{group}:{value}"
                    weights[concept] = max(weights.get(concept, 0.0), 1 / len(values))
        found[label] = Answer([weights.get(name, 0.0) for name in names], [name for name in names if weights.get(name)])
    return found


def cue_test(subject: Subject) -> dict[str, Answer]:
    """A word appended to the class's prompt, as "a fish desert": its mean value against the median of its group.

    A concept without a word, such as a missing companion, is the class's prompt by itself.

    Source: DEXTER (arXiv 2510.14741).
    """
    names, found = subject.concepts.names, {}
    for label in subject.labels:
        words = [name.partition(":")[2] if subject.can_say(name) else "" for name in names]
        prompts = ["" if word == label else word for word in words]
        captions = [f"a {label} {word}".strip() for word in prompts for _ in range(_LATENTS)]
        values = subject.values(f"cue-{label}", captions)[:, OBJECTS.index(label)].reshape(-1, _LATENTS).mean(1)
        found[label] = Answer(against_medians(values, names))
    return found


def against_medians(values: np.ndarray, names: tuple[str, ...]) -> list[float]:
    """Return values minus the median of their groups.

    Args:
        values: one of every concept.
        names: of the concepts, "group:value".
    """
    groups = np.array([name.partition(":")[0] for name in names])
    medians = {group: np.median(values[groups == group]) for group in groups.tolist()}
    return [float(value - medians[group]) for value, group in zip(values, groups.tolist(), strict=True)]


METHODS: dict[str, Method] = {
    OURS: audit,
    "class name": class_name,
    "nearest words": nearest_words,
    "CLIP similarity": clip_similarity,
    "cue test": cue_test,
    "segmentation": segmentation,
    "hypotheses": hypotheses,
}
"""Every method by the name of its rows."""
