"""Which sets of changes are drawn in search of a flip: each once, and each under one name."""

from collections.abc import Callable, Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.methods.diffex.flips import counterfactual_of
from diffexplain_fast.methods.diffex.jobs import Jobs
from diffexplain_fast.methods.diffex.scene import Job
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.verdict import Verdict
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.results.effects import Counterfactual
from diffexplain_fast.taxonomy import Concept, Taxonomy
from tests.methods.diffex.worlds import Nearness, pictures, quick_attribution
from tests.tiny import tiny_sd

TAXONOMY = Taxonomy({"a": ["x"], "b": ["y"], "c": ["z"]})


def trial(
    concepts: tuple[Concept, ...], effect: float, appeared: bool = True, before: float = 0.8, after: float = 0.5
) -> Trial:
    """Return a trial of these probabilities; the picture is recognised from one half on."""
    job, nothing = Job(concepts, {c.category: c.word for c in concepts}, ""), torch.zeros(3, 2, 2)
    numbers = (effect, 100 * (after - before), after, after >= 0.5, "a thing", "swap", before, before >= 0.5)
    return Trial(job, nothing, nothing[:1], Verdict(appeared), *numbers)


def searched(
    trials: Sequence[Trial], drawn: Callable[[Job], Trial]
) -> tuple[Counterfactual | None, list[Trial], list[tuple[str, ...]]]:
    """Return what a search finds, the trials that it draws, and the sets that it asks for, in their order."""
    asked: list[tuple[str, ...]] = []

    def run(scene: Any, jobs: Any, tries: int) -> list[Trial]:
        asked.extend(job.names for job in jobs)
        return [drawn(job) for job in jobs]

    said = SimpleNamespace(hit=torch.tensor([True]), names=["a thing"], probability=torch.tensor([0.9]))
    jobs, answers = Jobs(PlainWording(TAXONOMY), lambda text: True), SimpleNamespace(ask=lambda pixels: said)
    lab: Any = SimpleNamespace(run=run, jobs=jobs, answers=answers)
    scene: Any = SimpleNamespace(pixels=torch.zeros(1, 3, 2, 2), caption="a thing", said={})
    return *counterfactual_of(lab, scene, trials, 4), asked


@pytest.mark.parametrize("appeared", [True, False])
def test_a_set_has_the_order_of_the_taxonomy_and_is_not_drawn_again(appeared: bool) -> None:
    singles = [trial((c,), effect) for c, effect in zip(TAXONOMY.concepts, (-1.0, -2.0, -3.0), strict=True)]
    pair = trial(TAXONOMY.concepts[:2], -3.0, appeared)  # drawn before, verified or not
    found, drawn, asked = searched([*singles, pair], lambda job: trial(job.concepts, -1.0, appeared=False))
    assert asked == [("b:y", "c:z"), ("a:x", "c:z"), ("a:x", "b:y", "c:z")]
    assert found is not None and not found.flipped and len(drawn) == 3


def test_a_set_whose_baseline_is_not_recognised_is_passed_over_and_larger_ones_are_tried() -> None:
    lost = [trial((c,), -1.0, before=0.1, after=0.2) for c in TAXONOMY.concepts[:2]]  # raised, and still no target
    kept = trial(TAXONOMY.concepts[2:], -1.0, before=0.8, after=0.6)
    assert [one.flipped for one in (*lost, kept)] == [None, None, False]

    def drawn(job: Job) -> Trial:
        return trial(job.concepts, -1.0, before=0.7, after=0.3 if len(job.concepts) == 2 else 0.1)

    found, _, asked = searched([*lost, kept], drawn)
    assert found is not None and found.flipped and len(found.changes) == 2 and {len(names) for names in asked} == {2}
    assert (found.probability_before, found.probability_after) == (0.7, 0.3)
    none, more, _ = searched(lost, lambda job: trial(job.concepts, -1.0, before=0.2, after=0.1))
    assert none is None and [one.job.names for one in more] == [("a:x", "b:y")]
    near, _, _ = searched([*lost, kept], lambda job: trial(job.concepts, -1.0, before=0.2, after=0.1))
    assert near is not None and not near.flipped and near.changes == ("c:z",) and near.probability_before == 0.8


def test_pairs_that_the_search_for_a_flip_draws_are_edits_and_no_interactions() -> None:
    taxonomy = {"thing": ["fish"], "ground": ["snow"], "hat": ["red"], "coat": ["blue"]}
    classifier = dx.Classifier(Nearness(0.5), labels=("same", "other"))
    with dx.Explainer(tiny_sd(), classifier) as explainer:
        found = explainer.attribute(pictures(1), "same", taxonomy=taxonomy, captions=["a boat"], beam_width=2)
    pairs = [edit.concepts for edit in found.edits(0) if len(edit.concepts) == 2]
    assert len(found.interactions) == 4 < len(pairs) <= 6
    assert {*map(frozenset, pairs[:4])} == {frozenset((one.concept_a, one.concept_b)) for one in found.interactions}


def test_an_attribution_has_each_pair_once() -> None:
    taxonomy = {"thing": ["boat", "fish", "house"], "ground": ["snow", "desert"], "hat": ["red", "blue"]}
    found = quick_attribution(taxonomy=taxonomy, beam_width=2)
    pairs = [frozenset((one.concept_a, one.concept_b)) for one in found.interactions]
    assert len(pairs) == len(set(pairs)) > 2
    assert set(pairs) <= {frozenset((a.name, b.name)) for a, b in combinations(found.taxonomy.concepts, 2)}
    for i in range(len(found.images)):
        names = [frozenset(edit.concepts) for edit in found.edits(i)]
        assert len(names) == len(set(names))
