"""A loop of hypotheses without statistics, after SAIA: look at examples, suppose, test by a few pictures, refine.

The language model of SAIA is replaced by a rule: the most over-represented concepts among the pictures with the highest
values are supposed first. A few pictures with a concept are compared with as many without it; no interval is computed
and no number of tests is corrected for. Where no concept convinces, or more than one does, pairs are tested.

Source: SAIA (arXiv 2510.21704).
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from benchmarks.truth.answers import Answer
from benchmarks.truth.described import Pair
from benchmarks.truth.subjects import Subject
from diffexplain_fast.methods.discovery.plan import CONTEXT, Plan, context_plan
from diffexplain_fast.tinyworld.words import OBJECTS

_POOL, _AUDITED = 200, 400
"""Pictures to find examples in, the first of those that an audit draws."""
_EXAMPLES, _PICTURES = 12, 4
_ROUNDS, _EACH = 3, 2
"""Rounds at most, and hypotheses of a round."""
_CONVINCING = 1.0
"""Difference of mean values, in logits, that convinces."""
_PAIRED = 3


def hypotheses(subject: Subject) -> dict[str, Answer]:
    """Return what the loop says of each class."""
    names = subject.concepts.names
    plan = context_plan(subject.concepts, subject.phrases, subject.explainer.pipeline, _AUDITED, 0).first(_POOL)
    values = subject.values(CONTEXT, plan.captions)
    return {label: _loop(subject, names, plan, values[:, OBJECTS.index(label)], label) for label in subject.labels}


def _loop(subject: Subject, names: Sequence[str], plan: Plan, values: np.ndarray, label: str) -> Answer:
    supposed, place = by_examples(plan.asked.named, values), OBJECTS.index(label)
    tested: dict[str, float] = {}
    for turn in range(_ROUNDS):
        for i in supposed[turn * _EACH : (turn + 1) * _EACH]:
            tested[names[i]] = _tested(subject, [names[i]], place)
        if max(tested.values()) > _CONVINCING:
            break
    convinced = [name for name, effect in tested.items() if effect > _CONVINCING]
    pairs = []
    if len(convinced) != 1:
        for one, two in combinations(sorted(tested, key=lambda name: -tested[name])[:_PAIRED], 2):
            if one.partition(":")[0] != two.partition(":")[0]:
                both = _tested(subject, sorted([one, two]), place)
                pairs += judged(one, two, tested, both)
    named = dict.fromkeys([*convinced, *(name for pair in pairs for name in pair[:2])])
    kinds = {"and": "conjunction", "or": "either-or"}
    verdict = kinds[pairs[0].kind] if pairs else None
    return Answer([tested.get(name, 0.0) for name in names], list(named), pairs, verdict=verdict)


def by_examples(named: np.ndarray, values: np.ndarray) -> list[int]:
    """Return the concepts, those first that are most over-represented among the pictures with the highest values.

    Args:
        named: bool [pictures, concepts], what the captions ask for.
        values: [pictures].
    """
    best = np.argsort(-values, kind="stable")[:_EXAMPLES]
    more = named[best].mean(0) - named.mean(0)
    return [int(i) for i in np.argsort(-more, kind="stable")]


def judged(one: str, two: str, alone: Mapping[str, float], both: float) -> list[Pair]:
    """Return the pair if both together do much more or much less than the sum of what each does.

    Args:
        one: a concept.
        two: another one.
        alone: concept to its difference.
        both: the difference of both together.
    """
    more = both - alone[one] - alone[two]
    if more > _CONVINCING:
        return [Pair(one, two, "and", more)]
    enough = min(alone[one], alone[two]) > _CONVINCING
    return [Pair(one, two, "or", more)] if enough and more < -_CONVINCING else []


def _tested(subject: Subject, concepts: Sequence[str], place: int) -> float:
    """Return the mean value of a class in a few pictures with concepts, minus that in as many without them."""
    key = hashlib.sha256("/".join(concepts).encode()).hexdigest()[:12]
    rng = np.random.default_rng(int(key, 16))
    cells = [(group, value) for group, _, value in (name.partition(":") for name in concepts)]
    shown, hidden = [], []
    for _ in range(_PICTURES):
        scene = {group: str(rng.choice(values)) for group, values in subject.concepts.groups.items()}
        for group, value in cells:
            scene[group] = str(rng.choice([other for other in subject.concepts.groups[group] if other != value]))
        hidden.append(subject.phrases.say(scene, (), 0))
        shown.append(subject.phrases.say({**scene, **dict(cells)}, (), 0))
    values = subject.values(f"test-{key}", [*shown, *hidden])[:, place]
    return float(values[:_PICTURES].mean() - values[_PICTURES:].mean())
