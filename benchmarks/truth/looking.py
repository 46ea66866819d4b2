"""Rivals that look at the pictures of an explanation, beside pictures of the class's name."""

from torch import Tensor

from benchmarks.truth.answers import Answer
from benchmarks.truth.subjects import Subject
from diffexplain_fast.evidence.shipped import shipped_with
from diffexplain_fast.models.seeing import Segmenter, Similarity

_LEAST_SHARE = 0.02
"""Share of a picture's pixels from which on a segment is present."""


def clip_similarity(subject: Subject) -> dict[str, Answer]:
    """How much more similar a concept's word is to the explanation's pictures than to those of the class's name."""
    similarity = shipped_with(subject.explainer.pipeline).similarity
    assert similarity is not None
    said = {name: name.partition(":")[2] for name in subject.concepts.names if subject.can_say(name)}
    found = {}
    for label in subject.labels:
        explained, named = (
            _mean(similarity, pictures) for pictures in (subject.explained(label), subject.named(label))
        )
        more = dict(zip(said, similarity.texts(list(said.values())) @ (explained - named), strict=True))
        found[label] = Answer([float(more.get(name, 0.0)) for name in subject.concepts.names])
    return found


def _mean(similarity: Similarity, pictures: Tensor) -> Tensor:
    return similarity.pictures(pictures).mean(0)


def segmentation(subject: Subject) -> dict[str, Answer]:
    """Share of the explanation's pictures in which a segmenter finds a concept, minus that of the class's name.

    Source: DEXTER (arXiv 2510.14741) and the seeds of this project: presence by language-driven segmentation.
    """
    shipped = shipped_with(subject.explainer.pipeline)
    segmenter, wording = shipped.segmenter, shipped.wording
    assert segmenter is not None and wording is not None
    regions = {}
    for name in subject.concepts.names:
        group, _, value = name.partition(":")
        regions[name] = wording.region(value, group) if subject.can_say(name) else None
    found = {}
    for label in subject.labels:
        explained, named = (
            present(segmenter, pictures, regions) for pictures in (subject.explained(label), subject.named(label))
        )
        found[label] = Answer([explained[name] - named[name] for name in subject.concepts.names])
    return found


def present(segmenter: Segmenter, pictures: Tensor, regions: dict[str, str | None]) -> dict[str, float]:
    """Return the share of pictures in which each concept is found; 0 for a concept without a text.

    Args:
        segmenter: finds regions.
        pictures: [n, 3, H, W].
        regions: concept to the text that the segmenter is asked for.
    """
    shares = {}
    for name, text in regions.items():
        where = None if text is None else segmenter.regions(pictures, [text] * len(pictures))
        shares[name] = 0.0 if where is None else float((where.float().mean((1, 2, 3)) > _LEAST_SHARE).float().mean())
    return shares
