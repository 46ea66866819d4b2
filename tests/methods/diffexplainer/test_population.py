"""Populations of prompts: where they begin, who goes on, and that an interrupted search ends as a whole one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import describing, looking
from diffexplain_fast.methods.diffexplainer.climbing import Rung, climb
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.population import (
    FIRST_LOOK,
    LEFT,
    RANDOM_PROMPTS,
    RUNGS,
    random_prompts,
    search_population,
)
from diffexplain_fast.methods.diffexplainer.screening import Start
from diffexplain_fast.methods.diffexplainer.settings import found_by
from diffexplain_fast.methods.diffexplainer.state import State
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.runs.spending import Limit
from diffexplain_fast.targets import ClassLogit, ClassProbability, Target
from tests.explaining import QUICK, assert_same_result, quick_explanation
from tests.tiny import LABELS, tiny_classifier, tiny_sd

OPTIONS = Options(n_tokens=2, stop_probability=None)
_DESCRIBED, _BAGS = (2, 1, 1), 8


@pytest.fixture(autouse=True)
def short_descriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe in few steps, and draw few prompts of random words."""
    monkeypatch.setattr(describing, "STEPS", _DESCRIBED)
    monkeypatch.setattr(looking, "BAGS", _BAGS)


def problem_of(module: nn.Module | None = None, target: Target | None = None) -> Problem:
    pipeline = load_pipeline(tiny_sd())
    classifier = Classifier(tiny_classifier() if module is None else module, labels=LABELS)
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=2, guidance_scale=1.0)
    bound = (target or ClassProbability("boat")).bind(classifier)
    return Problem(pipeline, sampler, classifier, bound, "", 0).with_steps(1)


def search(problem: Problem, kept: Kept | None = None, members: tuple[Start, ...] = (), **options: Any) -> list[Start]:
    chosen = Options(**{"n_tokens": 2, "stop_probability": None, **options})
    kept = Kept(cost=problem.cost) if kept is None else kept
    return search_population(problem, chosen, 0, members, kept, lambda done: None)


def test_random_prompts_have_the_mean_and_the_covariance_of_the_vocabulary() -> None:
    problem = problem_of()
    table = problem.pipeline.word_table()
    tokens = torch.cat([random_prompts(problem, 60, number) for number in range(20)]).flatten(0, 1)
    assert not torch.equal(random_prompts(problem, 2, 0), random_prompts(problem, 2, 1))
    assert torch.equal(random_prompts(problem, 2, 0), random_prompts(problem, 2, 0))
    expected = 1.2**2 * torch.cov(table.T)
    assert float((torch.cov(tokens.T) - expected).norm()) < 0.05 * float(expected.norm())
    assert float((tokens.mean(0) - table.mean(0)).norm()) < 0.05 * float(table.std(0).norm())


def test_steps_raise_the_promise_and_batches_change_nothing() -> None:
    problem = problem_of(target=ClassLogit("boat"))
    softs = random_prompts(problem, 2, 0)[:3]
    _, climbed = climb(problem, OPTIONS, Rung(3, 8, 2), softs, 0)
    with torch.no_grad():
        low, high = (
            problem.scores(problem.images(problem.encode_soft(s), "x", [0] * 3)).score for s in (softs, climbed)
        )
    assert (high > low).all()
    whole, moved = climb(problem, Options(search_batch=8), Rung(3, 2, 2), softs, 0)
    parted, also_moved = climb(problem, Options(search_batch=2), Rung(3, 2, 2), softs, 0)
    torch.testing.assert_close(whole, parted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved, also_moved, rtol=1e-3, atol=1e-5)


def test_each_prompt_has_the_gradient_that_it_has_alone() -> None:
    problem, options = problem_of(), Options(cutouts=1, word_pull=0.5, stop_probability=None)
    softs = random_prompts(problem, 2, 0)[:2]
    together = climb(problem, options, Rung(2, 1, 2), softs, 0)
    for i in range(2):
        alone = climb(problem, options, Rung(1, 1, 2), softs[i : i + 1], 0)
        torch.testing.assert_close(together[0][i], alone[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together[1][i], alone[1][0], rtol=1e-3, atol=1e-5)


def test_a_population_costs_what_its_rungs_say_and_its_members_take_part() -> None:
    problem = problem_of()
    found = search(problem)
    assert [start.name for start in found] == [f"search 0.{i}" for i in range(LEFT)]
    assert found[0].score >= found[1].score
    described = len(_DESCRIBED) * (describing.BEST + describing.DRAWN)
    others = looking.LOOKS * _BAGS + described
    assert problem.cost.forward == RANDOM_PROMPTS * FIRST_LOOK + others
    climbed = sum(rung.prompts * rung.latents for rung in RUNGS)
    assert problem.cost.gradient == climbed + sum(_DESCRIBED) * describing.ROWS
    again = problem_of()
    member = Start("given", random_prompts(again, 2, 7)[0])
    search(again, members=(member,))
    assert again.cost.forward == (RANDOM_PROMPTS + 1) * FIRST_LOOK + others


def test_a_rung_ends_where_every_picture_of_a_prompt_convinces() -> None:
    problem = problem_of(Certain())
    kept = Kept(cost=problem.cost)
    found = search(problem, kept, stop_probability=0.9)
    description = torch.tensor(kept.scores['["search", 0, "prompt of description", 0]']).reshape(1, 2, -1)
    assert found[0].origin == "description"
    known = torch.cat([description, random_prompts(problem, 2, 0)])
    assert all(bool((known - start.soft).abs().amax((1, 2)).min() < 1e-6) for start in found), "none has moved"
    described, last = _DESCRIBED[0] * describing.ROWS, RUNGS[-1]
    assert problem.cost.gradient == described + last.prompts * last.pictures * 2, "a good description leaves one rung"


def test_a_spent_budget_leaves_out_the_rungs() -> None:
    problem = problem_of()
    problem.cost.limit = Limit(rows=1)
    found = search(problem)
    assert problem.cost.gradient == 0 and len(found) == LEFT


def test_what_is_kept_is_not_computed_again_and_its_cost_is_counted_once() -> None:
    first = problem_of()
    kept = Kept(cost=first.cost)
    found = search(first, kept)
    second = problem_of()
    recalled = Kept(scores=dict(kept.scores), cost=second.cost)
    again = search(second, recalled)
    assert all(torch.equal(one.soft, other.soft) for one, other in zip(found, again, strict=True))
    assert second.cost.spent[:2] == first.cost.spent[:2]


def test_numbers_that_are_none_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.mean((1, 2, 3))[:, None].expand(-1, 4) * (float("nan") if pixels.requires_grad else 1.0)

    with pytest.raises(NonFiniteError, match=r"^search: wanted a finite loss and gradient, got a loss of nan"):
        search(problem_of(Broken()))


class Interrupted(Exception):
    """What stands for a process that is killed."""


@pytest.mark.parametrize("call", [2, 11])
def test_an_interrupted_search_ends_as_an_uninterrupted_one(tmp_path: Path, call: int) -> None:
    class Killed(nn.Module):
        def __init__(self, last: int | None) -> None:
            super().__init__()
            self.model, self.last, self.calls = tiny_classifier(), last, 0

        def forward(self, pixels: Tensor) -> Tensor:
            self.calls += pixels.requires_grad
            if self.calls == self.last:
                raise Interrupted
            return self.model(pixels)

    options = {**QUICK, "start": "gradient", "iterations": 3, "checkpoint": tmp_path / "run"}
    with pytest.raises(Interrupted):
        quick_explanation(Killed(call), **options)
    resumed = quick_explanation(Killed(None), **options)
    whole = quick_explanation(Killed(None), **{**options, "checkpoint": tmp_path / "other"})
    assert_same_result(resumed, whole)
    rows = [{**e.settings["found"]["cost"], "seconds": 0} for e in (resumed, whole)]
    assert rows[0] == rows[1]


def test_a_search_says_how_it_found_and_what_it_cost() -> None:
    found = quick_explanation(start="gradient").settings["found"]
    assert found["by"] == "gradient" and found["words_drawn"] > 0, "texts that may be its name"
    assert found["cost"]["gradient"] > 0 and found["cost"]["seconds"] > 0


class Certain(nn.Module):
    """The tiny classifier with a head that answers "boat" whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_classifier()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        return 0.01 * self.model(pixels) + torch.tensor([9.0, 0.0, 0.0, 0.0])


def test_a_start_that_only_changed_its_units_was_not_moved_by_the_gradient() -> None:
    start = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    ranking = [{"name": "blue desert", "score": 0.9, "origin": "proposals"}]
    state = State(start[None], ranking, start / 0.0173, start / 0.0173 * 0.0173)
    assert not torch.equal(state.best, start) and found_by(state) == "proposals"
    state.best = start + 1e-3
    assert found_by(state) == "proposals and gradient"
