"""Candidates for the concepts of an audit where no grammar is known: words of prompts, captions, a file, a list."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.concept_names import spoken, unknown_labels
from diffexplain_fast.evidence.concepts import WORD, Concepts
from diffexplain_fast.evidence.eyes import numbers_of
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.taxonomy import Taxonomy

Embed = Callable[[Sequence[str]], np.ndarray]
"""Texts to their embeddings, float [n, d]."""
See = Callable[[Tensor, Sequence[str]], np.ndarray]
"""Pixels [B, 3, H, W] and texts to how well each text fits each picture, float [B, n]."""
Draw = Callable[[Sequence[str]], Tensor]
"""Captions to pixels [B, 3, H, W]."""

SAME, OWN = 0.97, 0.97
"""Cosine of two texts from which they are one candidate, and from which a concept is a class's own."""
EACH = 12
"""Pictures in which a candidate has to be seen."""
_MOST, _LEVEL = 200, 0.05


@dataclass(frozen=True)
class Candidate:
    """A word that may become a concept.

    Attributes:
        word: the word.
        group: of the taxonomy, "word" for a free word.
        source: "user", "taxonomy", "found prompt" or "caption": the first of these that has it.
        same_as: the candidate that is kept in its place, None where it is kept or left out for another reason.
        drawable: the probability that a picture that asks for it fits it better than one that does not; None where it
            was not checked.
        kept: whether it is a concept.
    """

    word: str
    group: str
    source: str
    same_as: str | None = None
    drawable: float | None = None
    kept: bool = True


@dataclass(frozen=True)
class Candidates:
    """All candidates, and the concepts that are left of them.

    Attributes:
        rows: every candidate, in the order of their sources.
        concepts: for ``Explainer.audit``.
    """

    rows: tuple[Candidate, ...]
    concepts: Concepts

    def __repr__(self) -> str:
        kept = sum(row.kept for row in self.rows)
        return f"Candidates({len(self.rows)} rows, {kept} kept, {len(self.concepts.names)} concepts)"


def gather(
    pipeline: Pipeline,
    words: Sequence[str] = (),
    taxonomy: Taxonomy | Mapping[str, object] | Sequence[object] | str | Path | None = None,
    found: Iterable[str] = (),
    captions: Sequence[str] = (),
    labels: Sequence[str] = (),
    core: Mapping[str, Sequence[str]] | None = None,
    embed: Embed | None = None,
) -> Candidates:
    """Gather candidates and leave out what is said twice or cannot be said.

    Args:
        pipeline: draws the pictures; a word that its tokenizer cuts is left out.
        words: of the user.
        taxonomy: a taxonomy, values of its JSON, or its file; its categories with two words or more become groups.
        found: words of prompts that ``explain`` has found.
        captions: of pictures, such as a captioner writes; words that two of them share.
        labels: of the classes; a concept whose text is as near as ``OWN`` to a label, or that is the last word of one
            of the label's names, is declared the class's own.
        core: label to the concepts that the user declares as its own, which counts before what similarity says.
        embed: texts to embeddings, by which likeness is measured; None for the pipeline's own text encoder.

    Returns:
        The candidates; ``Concepts.similar`` holds what likeness declares.

    Raises:
        TypeError: an argument of another kind.
        UnknownNameError: ``core`` names a label that is not among ``labels``, where there are any.
        ValueError: nothing is left.
    """
    _check_texts("words", words)
    _check_texts("captions", captions)
    if core is not None and not isinstance(core, Mapping):
        raise wrong_type("core", "a dict from labels to lists of concepts, or None", core)
    for unknown in unknown_labels(core or {}, labels or None):
        raise unknown
    for label, named in (core or {}).items():
        _check_texts(f"core, {label}", named)
    near = pipeline_embedding(pipeline) if embed is None else checked_embedding(embed)
    rows = _unique(_listed(words, taxonomy, found, captions))
    rows = [row if pipeline.spells(row.word) else replace(row, kept=False) for row in rows]
    rows = _without_doubles(rows, near)
    return Candidates(tuple(rows), _concepts(rows, labels, core or {}, near))


def checked(candidates: Candidates, draw: Draw, see: See, each: int = EACH) -> Candidates:
    """Leave out candidates that the generator does not draw, as far as an eye can tell.

    The pictures that ask for a candidate have to fit it better than the pictures of all others do (Mann-Whitney, at
    5 %); where the eye cannot tell words apart, nothing is drawable by this test, so take it only with an eye that can.

    Args:
        candidates: from ``gather``.
        draw: draws captions.
        see: says how well texts fit pictures.
        each: pictures of each candidate, at least 4.

    Raises:
        ValueError: too few pictures, or no candidate that is drawn.
    """
    if each < 4:
        raise wrong_value("each", "at least 4 pictures", each)
    kept = [row for row in candidates.rows if row.kept]
    said = [f"a photo of {row.word}" for row in kept]
    wanted = f"a function that returns numbers [{each}, {len(said)}] for {each} pictures and {len(said)} texts"
    fits = np.concatenate([_numbers("see", wanted, see(draw([text] * each), said), each, len(said)) for text in said])
    test = importlib.import_module("scipy.stats").mannwhitneyu
    places, found = np.repeat(np.arange(len(kept)), each), {}
    for place, row in enumerate(kept):
        mine, others = fits[places == place, place], fits[places != place, place]
        one = test(mine, others, alternative="greater") if len(others) else None
        area = None if one is None else float(one.statistic) / (len(mine) * len(others))
        found[row.group, row.word] = replace(row, drawable=area, kept=one is None or one.pvalue <= _LEVEL)
    rows = tuple(found.get((row.group, row.word), row) for row in candidates.rows)
    left = {f"{row.group}:{row.word}" for row in rows if row.kept}
    return Candidates(rows, _grouped(rows, *candidates.concepts.declared_among(left)))


def checked_embedding(embed: Embed) -> Embed:
    """Return an embedding of the user's whose answers are checked, each time.

    Raises:
        TypeError: no function.
    """
    if not callable(embed):
        raise wrong_type("embed", "a function of texts, or None", embed)

    def checked_embed(texts: Sequence[str]) -> np.ndarray:
        wanted = f"a function that returns numbers [{len(texts)}, d] for {len(texts)} texts"
        return _numbers("embed", wanted, embed(texts), len(texts))

    return checked_embed


def _numbers(argument: str, wanted: str, given: object, rows: int, columns: int | None = None) -> np.ndarray:
    """Return what a function of the user's gave, as finite float [rows, columns]."""
    found = numbers_of(argument, wanted, given)
    if found.ndim != 2 or len(found) != rows or columns not in (None, found.shape[1]) or not np.isfinite(found).all():
        raise wrong_value(argument, wanted, f"{list(found.shape)}, {int(np.isfinite(found).sum())} of them finite")
    return found


def _check_texts(argument: str, given: object) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise wrong_type(argument, "a list of texts", given)
    for text in given:
        if not isinstance(text, str):
            raise wrong_type(argument, "a list of texts", text)


def pipeline_embedding(pipeline: Pipeline) -> Embed:
    """Return the text encoder of a pipeline as embeddings: all token states minus those of an empty text."""

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> np.ndarray:
        states = pipeline.encode_text([*texts, ""]).prompt_embeds.double().cpu()
        return np.asarray((states[:-1] - states[-1:]).flatten(1))

    return embed


def _listed(
    words: Sequence[str],
    taxonomy: Taxonomy | Mapping[str, object] | Sequence[object] | str | Path | None,
    found: Iterable[str],
    captions: Sequence[str],
) -> list[Candidate]:
    rows = [Candidate(word, WORD, "user") for word in words]
    if taxonomy is not None:
        concepts = Taxonomy.of(taxonomy).concepts
        rows += [Candidate(concept.word, concept.category or WORD, "taxonomy") for concept in concepts]
    rows += [Candidate(word, WORD, "found prompt") for word in found]
    if captions:
        rows += [Candidate(word, WORD, "caption") for word in Concepts.from_captions(captions, _MOST).words]
    return rows


def _unique(rows: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, each word once; a plural is its singular, and a value of a group counts before words."""
    first: dict[str, Candidate] = {}
    ordered = sorted(rows, key=lambda row: row.group == WORD)
    for row in ordered:
        first.setdefault(_folded(row.word), row)
    kept = set(map(id, first.values()))
    return [row if id(row) in kept else replace(row, kept=False, same_as=first[_folded(row.word)].word) for row in rows]


def _folded(word: str) -> str:
    folded = " ".join(word.lower().split())
    return folded[:-1] if len(folded) > 3 and folded.endswith("s") and not folded.endswith("ss") else folded


def _without_doubles(rows: Sequence[Candidate], embed: Embed) -> list[Candidate]:
    """Return the candidates; a free word that is as near as ``SAME`` to one before it is left out."""
    kept = [row for row in rows if row.kept]
    if len(kept) < 2:
        return list(rows)
    texts = embed([row.word for row in kept])
    near = _cosines(texts, texts)
    first = sorted(range(len(kept)), key=lambda i: (kept[i].group == WORD, i))
    taken: list[int] = []
    doubles: dict[int, Candidate] = {}
    for i in first:
        like = [j for j in taken if near[i, j] >= SAME]
        if like and kept[i].group == WORD:
            doubles[id(kept[i])] = replace(kept[i], kept=False, same_as=kept[like[0]].word)
        else:
            taken.append(i)
    return [doubles.get(id(row), row) for row in rows]


def _cosines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    parts = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (one, two)]
    return np.asarray(parts[0] @ parts[1].T)


def _concepts(
    rows: Sequence[Candidate], labels: Sequence[str], core: Mapping[str, Sequence[str]], embed: Embed
) -> Concepts:
    kept = [row for row in rows if row.kept]
    similar: dict[str, list[str]] = {}
    if labels and kept:
        near = _cosines(embed([row.word for row in kept]), embed([spoken(label) for label in labels]))
        for column, label in enumerate(labels):
            last = {_folded(name.split()[-1]) for name in label.replace("_", " ").split(",") if name.strip()}
            own = [i for i, row in enumerate(kept) if near[i, column] >= OWN or _folded(row.word) in last]
            similar[label] = [f"{kept[i].group}:{kept[i].word}" for i in own]
    return _grouped(rows, core, {label: named for label, named in similar.items() if named})


def _grouped(
    rows: Sequence[Candidate], core: Mapping[str, Sequence[str]], similar: Mapping[str, Sequence[str]]
) -> Concepts:
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.kept:
            groups.setdefault(row.group, []).append(row.word)
    words = groups.pop(WORD, [])
    single = {group: values for group, values in groups.items() if len(values) < 2}  # no group has one value
    groups = {group: values for group, values in groups.items() if group not in single}
    words += [value for values in single.values() for value in values]
    named = {f"{group}:{value}": f"{WORD}:{value}" for group, values in single.items() for value in values}
    declared = [{k: [named.get(c, c) for c in v] for k, v in part.items()} for part in (core, similar)]
    if not groups and not words:
        raise wrong_value("candidates", "at least one word that can be said and drawn", "none")
    return Concepts(groups, words, *declared)
