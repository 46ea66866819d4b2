"""A found prompt whose pictures convince in part is described by them, until nearly all do."""

import pytest
import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import sharpening
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, look_again
from diffexplain_fast.methods.diffexplainer.sharpening import sharpened
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import ClassProbability, Neuron
from tests.methods.diffexplainer.test_population import problem_of


@pytest.mark.slow
def test_what_a_prompt_says_too_weakly_is_said_louder(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, classifier = load_pipeline("tinyworld"), Classifier.from_pretrained("tinyworld/background")
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=4, guidance_scale=4.0)
    problem = Problem(pipeline, sampler, classifier, ClassProbability("fish").bind(classifier), "", 0)
    desert, other = (pipeline.token_embeddings(text).detach() for text in ("desert nothing", "sea nothing"))
    options, kept = Options(n_tokens=2), Kept()
    weak = look_again(problem, Start("weak", torch.lerp(other, desert, 0.5)), options.n_validation, kept)
    assert weak.score is not None and 0.4 <= weak.score < 0.9
    rows = problem.cost.rows
    found = sharpened(problem, problem, options, 0, weak, kept)
    assert found and found[-1].score is not None and found[-1].score > weak.score + 0.05
    assert problem.cost.rows > rows and {start.origin for start in found} == {"description"}
    rows = problem.cost.rows
    again = sharpened(problem, problem, options, 0, weak, kept)
    assert problem.cost.rows == rows, "an interrupted run finds what it kept"
    assert [start.score for start in again] == [start.score for start in found]
    same = problem.after([found[-1].soft])
    monkeypatch.setattr(sharpening, "moved", lambda *_: found[-1].soft)
    monkeypatch.setattr(sharpening, "_DRAWN", 2)
    assert not sharpened(same, same, options, 1, weak, Kept()), "it would explain what is explained already"


@pytest.mark.parametrize("score", [0.3, 0.96])
def test_a_prompt_that_hardly_ever_or_nearly_always_convinces_stays(score: float) -> None:
    problem = problem_of()
    start = Start("found", problem.pipeline.token_embeddings("boat").detach(), score)
    assert not sharpened(problem, problem, Options(), 0, start, Kept())


def test_a_target_without_a_class_is_not_sharpened() -> None:
    problem = problem_of(target=Neuron("layer1", 1))
    start = Start("found", problem.pipeline.token_embeddings("boat").detach(), 0.6)
    assert not sharpened(problem, problem, Options(), 0, start, Kept())
