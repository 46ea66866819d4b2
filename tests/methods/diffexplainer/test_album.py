"""Pictures that serve every target and classifier on a pipeline, and only as long as they are what would be drawn."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.album import Album, album_of
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.targets import ClassProbability
from tests.tiny import LABELS, tiny_classifier, tiny_sd

QUICK = {
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "iterations": 1,
    "restarts": 1,
    "n_tokens": 2,
    "n_validation": 2,
    "n_score": 2,
    "n_images": 2,
    "candidates": ["red", "blue", "snow"],
    "progress": False,
}


def problem_of(pipeline: Pipeline, seed: int = 0, **options: float) -> Problem:
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    sampler = DifferentiableSampler.from_pipe(pipeline, **{"num_inference_steps": 2, "guidance_scale": 1.0, **options})
    return Problem(pipeline, sampler, classifier, ClassProbability("boat").bind(classifier), "", seed)


def drawn(problem: Problem, key: str = "red") -> Tensor:
    def draw() -> Tensor:
        return problem.images(problem.encode_soft(problem.pipeline.token_embeddings(key).detach()), "screen", [0, 1])

    return album_of(problem).pictures(problem, (key,), draw)


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """Rows of every call of a UNet in the engine or in its own modules."""
    found: list[int] = []
    original = Problem.images

    def images(self: Problem, *arguments: object) -> Tensor:
        found.append(1)
        return original(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Problem, "images", images)
        yield found


def test_pictures_are_drawn_once_and_cost_the_same_for_everybody(calls: list[int]) -> None:
    pipeline = load_pipeline(tiny_sd())
    wanted = drawn(problem_of(pipeline)).clone()
    for _ in range(3):
        problem = problem_of(pipeline)
        pixels = drawn(problem)
        assert torch.equal(pixels, wanted) and len(calls) == 1
        assert problem.cost.spent[:2] == (4.0, 0.0)
        pixels.zero_()  # as a classifier does that writes into what it is given


@pytest.mark.parametrize("change", ["seed", "steps", "scheduler", "scaling", "prefix", "few steps", "another pipeline"])
def test_what_decides_a_picture_makes_it_another_one(calls: list[int], change: str) -> None:
    pipeline = load_pipeline(tiny_sd())
    drawn(problem_of(pipeline))
    other = problem_of(
        pipeline, seed=int(change == "seed"), **({"num_inference_steps": 3} if change == "steps" else {})
    )
    if change == "scheduler":
        pipeline.scheduler.register_to_config(beta_end=0.03)
        other = problem_of(pipeline)
    if change == "scaling":
        pipeline.vae.register_to_config(scaling_factor=0.5)
    if change == "prefix":
        other.prefix = "a"
    if change == "few steps":
        other = other.with_steps(1)
    if change == "another pipeline":
        other = problem_of(load_pipeline(tiny_sd()))
    drawn(other)
    assert len(calls) == 2


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("how", ["in place", "data", "hook"])
def test_an_edit_makes_every_picture_another_one(calls: list[int], part: str, how: str) -> None:
    pipeline = load_pipeline(tiny_sd())
    drawn(problem_of(pipeline))
    module: nn.Module = pipeline.text_encoders[0] if part == "text_encoder" else getattr(pipeline, part)
    weight = next(module.parameters())
    if how == "in place":
        with torch.no_grad():
            weight.mul_(1.5)
    elif how == "data":
        weight.data.mul_(1.5)
    else:
        module.register_forward_hook(lambda *given: None)
    drawn(problem_of(pipeline))
    assert len(calls) == 2


def test_no_more_is_kept_than_there_is_room_for_and_other_samplers_go_first() -> None:
    pipeline = load_pipeline(tiny_sd())
    old, new = problem_of(pipeline), problem_of(pipeline, seed=1)
    one = drawn(old).nbytes
    shelf = album_of(old).shelf
    assert len(shelf.batches) == 1
    small = Album(album_of(new).identity, room=2 * one, shelf=shelf)
    for key in ("red", "blue", "snow"):
        small.pictures(new, (key,), lambda: torch.zeros(one // 4))
    assert [key[-1] for key in shelf.batches] == ["red", "blue"] and {key[0] for key in shelf.batches} == {
        small.identity
    }


@pytest.mark.slow
def test_a_second_explainer_draws_no_word_again_and_finds_the_same(calls: list[int]) -> None:
    classifiers = [dx.Classifier(tiny_classifier(), labels=LABELS) for _ in range(2)]
    with dx.Explainer(load_pipeline(tiny_sd()), classifiers[1]) as explainer:
        alone = explainer.explain("boat", **QUICK)
    pipeline, numbers = load_pipeline(tiny_sd()), []
    for classifier in classifiers:
        calls.clear()
        with dx.Explainer(pipeline, classifier) as explainer:
            found = explainer.explain("boat", **QUICK)
        numbers.append(len(calls))
    assert numbers[1] < numbers[0]
    assert torch.equal(found.prompt_embeds, alone.prompt_embeds)
    spent = [[one.settings["found"]["cost"][kind] for kind in ("forward", "gradient")] for one in (alone, found)]
    assert spent[0] == spent[1]


@pytest.mark.parametrize("change", ["tables", "spacing", "autocast"])
def test_another_schedule_or_arithmetic_makes_other_pictures(calls: list[int], change: str) -> None:
    pipeline = load_pipeline(tiny_sd())
    drawn(problem_of(pipeline))
    scheduler = pipeline.scheduler
    if change == "tables":
        scheduler.alphas_cumprod = scheduler.alphas_cumprod**1.5
    if change == "spacing":
        scheduler.register_to_config(timestep_spacing="trailing")
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        drawn(problem_of(pipeline))
    assert len(calls) == 2
