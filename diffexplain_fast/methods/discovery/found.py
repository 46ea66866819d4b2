"""The trial of what an explanation found: its tokens follow fresh captions like a word, and the effect is measured."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.disturbed import as_jpeg, shifted
from diffexplain_fast.evidence.phrases import check_captions
from diffexplain_fast.methods.discovery.explained import DECIDED, kind_of, seen_changes
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.question import Found, Question
from diffexplain_fast.methods.discovery.rows import Trial
from diffexplain_fast.results.audit_rows import AuditRow, FoundFeature
from diffexplain_fast.stats.named import named_share

SCENES = (32, 96)
"""Fresh captions of each target, drawn twice with one start latent each: at first, and where that decides nothing."""
_SAID = 0.5
"""Share of the groups that a caption names: the generator obeys words rather than tokens, so tokens need room."""
_SHOWN = 3
_HALF = 1.96
"""Half of a 95 % interval in standard errors."""


class _Said(NamedTuple):
    """Values of the target, float [scenes], by disturbance, and what an eye saw, [scenes, concepts] or None."""

    values: dict[str, np.ndarray]
    seen: np.ndarray | None


def check_room(question: Question, tokens: int = 0) -> None:
    """Refuse tokens for which captions leave no room.

    Args:
        question: with what explanations found so far.
        tokens: how many a search will find for every target; 0 without a search.

    Raises:
        ValueError: a caption and the tokens together are too long.
    """
    wanted = dict.fromkeys(range(len(question.readout.names)), tokens) if tokens else {}
    wanted |= {place: len(found.soft) for place, found in question.found.items()}
    pipeline = question.pool.pipeline
    for place, count in wanted.items():
        captions, room = _scenes(question, place), pipeline.max_tokens
        check_captions(captions, pipeline)
        longest = max(len(pipeline.token_embeddings(text)) for text in captions)
        if longest + count > room:
            text = f"tokens that fit after a caption, {room} in all"
            raise wrong_value("explain", text, f"{longest} of the caption and {count} found")


def found_features(
    question: Question, trial: Trial, rows: Sequence[AuditRow], report: Callable[[int, int], None]
) -> list[FoundFeature]:
    """Return what the tokens of explanations do in fresh pictures.

    Args:
        question: pool, classifier, eye, and what was found.
        trial: the finished trial.
        rows: of all targets.
        report: receives targets that are done and targets in all.
    """
    features = []
    for done, (place, found) in enumerate(question.found.items(), start=1):
        every, target = _scenes(question, place), trial.readout.names[place]
        tokens = found.soft.detach().float().cpu().numpy().tobytes()
        stage = f"found-{hashlib.sha256(target.encode() + tokens).hexdigest()[:12]}"
        own = [row for row in rows if row.target == target]
        for count in SCENES:
            plain, with_it = (_said(question, place, stage, every[:count], soft) for soft in (None, found.soft))
            feature = _feature(trial, found, own, plain, with_it)
            if feature.kind in DECIDED or feature.unexplained is None or feature.effect <= trial.delta:
                break  # decided; or never to be, because nobody sees what comes with the tokens or they do too little
        features.append(feature)
        report(done, len(question.found))
    return features


def _scenes(question: Question, place: int) -> list[str]:
    """Return captions that leave out about half of the groups, and the target's own object always."""
    concepts, label, name = question.concepts, question.readout.labels[place], question.readout.names[place]
    rng = np.random.default_rng([question.seed, int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)])
    own, captions = own_concept(concepts, label), list[str]()
    avoided = "" if own is None else concepts.names[own]
    for scene in range(SCENES[-1]):
        said = {}
        for group, values in concepts.groups.items():
            value = str(rng.choice([value for value in values if f"{group}:{value}" != avoided]))
            if rng.random() < _SAID:
                said[group] = value
        others = [word for word in concepts.words if f"word:{word}" != avoided]
        words = rng.permutation(others)[: rng.binomial(min(2, len(others)), _SAID)].tolist()
        captions.append(question.phrases.say(said, words, scene % question.phrases.count))
    return captions


def _said(question: Question, place: int, stage: str, captions: Sequence[str], soft: Tensor | None) -> _Said:
    """Return what is said of the scenes, as they are and disturbed."""
    pool, sight, seen = question.pool, question.sight, list[np.ndarray]()
    values: dict[str, list[np.ndarray]] = {"plain": [], "jpeg": [], "shift": []}
    for levels in pool.pictures(stage, captions, 0, len(captions), soft=soft):
        for name, changed in (("plain", levels), ("jpeg", as_jpeg(levels)), ("shift", shifted(levels))):
            values[name].append(question.readout(pool.as_pixels(changed))[0][:, place])
        if sight is not None:
            seen.append(sight.look(pool.as_pixels(levels)))
    return _Said(
        {name: np.concatenate(parts) for name, parts in values.items()}, np.concatenate(seen) if seen else None
    )


def _feature(trial: Trial, found: Found, rows: Sequence[AuditRow], plain: _Said, with_it: _Said) -> FoundFeature:
    weights = np.array([_known(row.other_effect) for row in rows])
    errors = np.array([(_known(row.other_high) - _known(row.other_low)) / 2 / _HALF for row in rows])
    changes, slack = np.zeros((len(with_it.values["plain"]), len(rows))), math.inf
    if plain.seen is not None and with_it.seen is not None:
        sizes = [*(len(values) for values in trial.concepts.groups.values()), *(1 for _ in trial.concepts.words)]
        changes, slack = seen_changes(with_it.seen - plain.seen, trial.errors, weights, sizes)
    said = {  # each look spends its part of the level
        name: named_share(with_it.values[name] - usual, changes, weights, errors, slack, trial.level / len(SCENES))
        for name, usual in plain.values.items()
    }
    usual, parts, blind = said["plain"], changes.mean(0) * weights, math.isinf(slack)
    order = [place for place in np.argsort(-np.abs(parts)) if abs(parts[place]) > trial.delta][:_SHOWN]
    return FoundFeature(
        target=rows[0].target,
        words=found.words,
        effect=usual.effect.estimate,
        low=usual.effect.low,
        high=usual.effect.high,
        unexplained=None if blind else usual.unexplained.estimate,
        unexplained_low=None if blind else usual.unexplained.low,
        unexplained_high=None if blind else usual.unexplained.high,
        named=None if blind or math.isnan(usual.share.estimate) else usual.share.estimate,
        named_low=None if blind or math.isinf(usual.share.low) else usual.share.low,
        named_high=None if blind or math.isinf(usual.share.high) else usual.share.high,
        optimism=found.optimism,
        concepts=[rows[place].concept for place in order],
        kind=kind_of(said, trial.delta),
    )


def _known(value: float | None) -> float:
    return 0.0 if value is None or not math.isfinite(value) else value
