"""Descriptions: what pictures that convince have in common becomes a prompt."""

import math

import pytest
import torch

from benchmarks.search.cells import classifier_of
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.describing import _weights, described
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.looking import BAG, BAGS, LOOKS, looked_at, with_bags
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import ClassProbability, Neuron
from tests.methods.diffexplainer.test_population import Certain, problem_of
from tests.methods.diffexplainer.test_shown import tiny_problem

CONVINCING = [f"a purple {thing} on desert" for thing in ("boat", "house", "tree", "star", "car", "mushroom")]
OTHERS = ["a purple house on snow", "a red boat on desert", "a purple star on night", "a white tree on desert"]
"""Each of them shows one half of the cue, so that nothing but the pair tells them from the convincing ones."""


def test_pictures_that_promise_the_same_are_described_as_often() -> None:
    same, unit = torch.full((4,), 3.0, dtype=torch.float64), tiny_problem(Neuron("resnet.embedder", 1))
    assert _weights(unit, same, same).tolist() == [1.0] * 4, "without a spread there is no unit"
    assert _weights(unit, same[:1], same[:1]).tolist() == [1.0]
    two = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert _weights(unit, two, two).tolist() == pytest.approx([math.exp(-(2**0.5)), 1.0])
    assert _weights(tiny_problem(), two, two).tolist() == pytest.approx([math.exp(-2), 1.0])


def test_a_pair_that_convincing_pictures_share_is_found_and_drawn() -> None:
    pipeline, classifier = load_pipeline("tinyworld"), classifier_of("all-of")
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=4, guidance_scale=4.0)
    problem = Problem(pipeline, sampler, classifier, ClassProbability("fish").bind(classifier), "", 0)
    softs, kept = torch.stack([pipeline.token_embeddings(text).detach() for text in CONVINCING + OTHERS]), Kept()
    seen = looked_at(problem, ["given"], softs, [*range(len(softs))], kept)
    assert 2 <= int((seen.promise > 0).sum()) <= len(CONVINCING)
    found, promises = described(problem, Options(), 0, seen, len(softs), kept)
    # Which token is nearest to which word, and whether the first description is enough, follows from the last bits.
    names = {word for near in pipeline.nearest_words(found[-1][0], 4) for word, _ in near}
    assert {"purple", "desert"} <= names, names
    assert max(map(float, promises)) > 0, "most pictures of the description convince"


def test_a_few_convincing_pictures_are_enough() -> None:
    never, always = problem_of(), problem_of(Certain())
    rows = torch.stack([never.pipeline.token_embeddings("boat").detach()] * 4)
    for problem, looks in ((never, LOOKS), (always, 0)):
        seen = looked_at(problem, ["given"], rows, [*range(4)], Kept())
        seen = seen._replace(promise=seen.promise - (100 if looks else 0))
        more = with_bags(problem, 0, seen, 4, Kept())
        assert len(more.softs) == len(more.latents) == len(more.promise) == 4 + looks * BAGS
        assert {len(soft) for soft in more.softs[4:]} == ({BAG} if looks else set())
        assert len(set(more.latents)) == len(more.latents)


def test_pictures_that_were_seen_are_drawn_again() -> None:
    problem = problem_of()
    words = [problem.pipeline.token_embeddings(text).detach() for text in ("boat", "a red fish", "snow")]
    parts = [looked_at(problem, [str(i)], soft[None], [i], Kept()) for i, soft in enumerate(words)]
    seen = parts[0].and_also(parts[1]).and_also(parts[2])
    best = seen.best(2)
    assert best.promise.tolist() == sorted(seen.promise.tolist(), reverse=True)[:2]
    assert problem.promise(problem.scores(best.drawn(problem))).tolist() == pytest.approx(
        best.promise.tolist(), rel=1e-4
    )
