"""Which sets of changes are drawn in search of a flip: each once, and each under one name."""

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffexplain_fast.methods.diffex.flips import counterfactual_of
from diffexplain_fast.methods.diffex.jobs import Jobs
from diffexplain_fast.methods.diffex.scene import Job
from diffexplain_fast.methods.diffex.verdict import Verdict
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.taxonomy import Concept, Taxonomy
from tests.methods.diffex.worlds import quick_attribution

TAXONOMY = Taxonomy({"a": ["x"], "b": ["y"], "c": ["z"]})


def trial(concepts: tuple[Concept, ...], effect: float, appeared: bool = True) -> Any:
    """Return what of a trial the search reads; none of them flips."""
    job = Job(concepts, {c.category: c.word for c in concepts}, "")
    return SimpleNamespace(
        job=job, effect=effect, verified=appeared, verdict=Verdict(appeared), hit=True, probability=0.5, name="a thing",
        pixels=torch.zeros(3, 2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("appeared", [True, False])
def test_a_set_has_the_order_of_the_taxonomy_and_is_not_drawn_again(appeared: bool) -> None:
    asked: list[tuple[str, ...]] = []

    def run(scene: Any, jobs: Any, tries: int) -> list[Any]:
        asked.extend(job.names for job in jobs)
        return [trial(job.concepts, -1.0, appeared=False) for job in jobs]

    said = SimpleNamespace(hit=torch.tensor([True]), names=["a thing"], probability=torch.tensor([0.9]))
    jobs, answers = Jobs(PlainWording(TAXONOMY), lambda text: True), SimpleNamespace(ask=lambda pixels: said)
    lab: Any = SimpleNamespace(run=run, jobs=jobs, answers=answers)
    scene: Any = SimpleNamespace(pixels=torch.zeros(1, 3, 2, 2), caption="a thing", said={})
    singles = [trial((c,), effect) for c, effect in zip(TAXONOMY.concepts, (-1.0, -2.0, -3.0), strict=True)]
    pair = trial(TAXONOMY.concepts[:2], -3.0, appeared)  # drawn before, verified or not
    found, drawn = counterfactual_of(lab, scene, [*singles, pair], 4)
    assert asked == [("b:y", "c:z"), ("a:x", "c:z"), ("a:x", "b:y", "c:z")]
    assert found is not None and not found.flipped and len(drawn) == 3


def test_an_attribution_has_each_pair_once() -> None:
    taxonomy = {"thing": ["boat", "fish", "house"], "ground": ["snow", "desert"], "hat": ["red", "blue"]}
    found = quick_attribution(taxonomy=taxonomy, beam_width=2)
    pairs = [frozenset((one.concept_a, one.concept_b)) for one in found.interactions]
    assert len(pairs) == len(set(pairs)) > 2
    assert set(pairs) <= {frozenset((a.name, b.name)) for a, b in combinations(found.taxonomy.concepts, 2)}
    for i in range(len(found.images)):
        names = [frozenset(edit.concepts) for edit in found.edits(i)]
        assert len(names) == len(set(names))
