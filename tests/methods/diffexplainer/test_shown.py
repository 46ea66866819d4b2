"""Pictures that show what an earlier explanation shows lose, and a further explanation is another one."""

import time
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.evaluation import pictures_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import describing, otherwise
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.looking import looked_at
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.otherwise import soft_of_name_or_prompt
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text
from diffexplain_fast.methods.diffexplainer.shown import is_shown, lost, make_scale, shares
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.targets import ClassProbability, Neuron
from diffexplain_fast.targets.base import Target
from tests.explaining import QUICK, quick_explainer
from tests.methods.diffexplainer.test_population import problem_of

YELLOW = ("yellow", "yellow house", "yellow boat on snow", "yellow tree with cloud")
OTHER = ("flag", "blue house with flag", "red boat on snow", "green tree with flag")


def tiny_problem(target: Target | None = None) -> Problem:
    """A problem of the tiny world's own generator, which knows its words."""
    pipeline, classifier = load_pipeline("tinyworld"), Classifier.from_pretrained("tinyworld/clean")
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=8, guidance_scale=4.0)
    return Problem(pipeline, sampler, classifier, (target or ClassProbability("star")).bind(classifier), "", 0)


def softs_of(problem: Problem, texts: tuple[str, ...]) -> torch.Tensor:
    """Soft tokens [K, 4, d] of texts."""
    return torch.stack([soft_from_text(problem.pipeline, text, 4) for text in texts])


def test_pictures_show_what_is_explained_already_by_chance_too() -> None:
    problem = tiny_problem().with_steps(4)
    yellow = problem.after([soft_from_text(problem.pipeline, "yellow", 4)])
    with torch.no_grad():
        pixels = problem.images(problem.encode_soft(softs_of(problem, YELLOW + OTHER)), "test", range(8))
    make_scale(yellow)
    rows = yellow.cost.rows
    make_scale(yellow.without_guidance())
    assert yellow.cost.rows == rows > 0, "the scale is made once"
    certain = torch.full((8,), 2.0)
    share = shares(yellow, pixels, certain)
    assert yellow.cost.rows - rows == 8 * 4 * 2, "four noises, under a neutral prompt and the earlier explanation"
    assert float(share[:4].mean()) > 0.7 > 0.35 > float(share[4:].mean())
    assert float((share[:4] > 0.5).sum() + (share[4:] < 0.5).sum()) >= 7
    rows = yellow.cost.rows
    assert shares(yellow, pixels, torch.full((8,), -9.0)).tolist() == [1.0] * 8 and yellow.cost.rows == rows


def test_an_explanation_is_shown_by_pictures_that_nearly_all_show_it() -> None:
    problem = tiny_problem().with_steps(4)
    yellow = problem.after([soft_from_text(problem.pipeline, "yellow", 4)])
    for text, expected in (("yellow house", True), ("house with flag", False)):
        softs = softs_of(problem, (text,) * 6)
        with torch.no_grad():
            pixels = problem.images(problem.encode_soft(softs), "test", range(6))
        assert is_shown(yellow, pictures_of(pixels)) is expected, text
    unit = replace(yellow, target=Neuron("resnet.embedder", 1).bind(yellow.classifier))
    rows = unit.cost.rows
    assert not is_shown(unit, []) and unit.cost.rows == rows, "a target without a class is not asked about"


@pytest.mark.parametrize("repeats", [True, False])
def test_an_explanation_that_repeats_an_earlier_one_is_looked_for_again(
    repeats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with quick_explainer() as explainer:
        first, second = (
            explainer.explain("boat", **QUICK | {"n_tokens": 2, "start": text}) for text in ("boat", "snow")
        )
    found, problems, spent = [second, deepcopy(second)], list[Problem](), deepcopy(second.settings["found"]["cost"])
    monkeypatch.setattr(otherwise, "explain_target", lambda problem, *_: problems.append(problem) or found.pop(0))
    monkeypatch.setattr(otherwise, "is_shown", lambda *_: repeats)
    otherwise.explain_otherwise(problem_of(), Options(), first, 2)
    said = [one.prompt_embeds for one in (first, second)]
    assert [len(one.others) for one in problems] == ([1, 2] if repeats else [1])
    assert all(torch.equal(one, other) for one, other in zip(problems[-1].others, said, strict=False))
    (other,) = first.others
    assert other.settings["found"]["cost"]["forward"] == (2 if repeats else 1) * spent["forward"]


def test_a_repeated_explanation_costs_what_was_spent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with quick_explainer() as explainer:
        first = explainer.explain("boat", **QUICK | {"start": "boat"})
    first.settings["found"]["cost"] = {"forward": 1, "gradient": 0, "seconds": 1.0}
    began, spent, problems = time.perf_counter(), list[float](), list[Problem]()

    def explain(problem: Problem, *_: object) -> Explanation:
        problems.append(problem)
        time.sleep(0.1)
        spent.append(problem.cost.spent[2])
        found = deepcopy(first)
        found.settings["found"]["cost"] = {"forward": 10, "gradient": 0, "seconds": spent[-1]}
        return found

    def shows(problem: Problem, *_: object) -> bool:
        problem.cost.count(5, gradient=False)
        return True

    monkeypatch.setattr(otherwise, "explain_target", explain)
    monkeypatch.setattr(otherwise, "is_shown", shows)
    otherwise.explain_otherwise(problem_of(), Options(), first, 2)
    cost = first.others[0].settings["found"]["cost"]
    assert cost["forward"] == 25 and len(spent) == 2
    assert sum(spent) <= cost["seconds"] <= time.perf_counter() - began
    assert [one.cost.earlier[0] for one in problems] == [1, 1 + 10 + 5], "looks at its pictures count in the budget"


def test_looks_count_what_is_not_explained_yet() -> None:
    problem = tiny_problem(dx.ClassLogit("star")).with_steps(4)
    softs, latents = softs_of(problem, YELLOW[:1] + OTHER[:1]), [0, 1]
    plain = looked_at(problem, ["test"], softs, latents, Kept(cost=problem.cost))
    assert plain.lost.tolist() == [0.0, 0.0]
    after = problem.after([soft_from_text(problem.pipeline, "yellow", 4)])
    kept = Kept(cost=after.cost)
    seen = looked_at(after, ["test"], softs, latents, kept)
    torch.testing.assert_close(seen.promise + seen.lost, plain.promise)
    rows = after.cost.rows
    again = looked_at(after, ["test"], softs, latents, kept)
    assert torch.equal(again.promise, seen.promise) and after.cost.rows == rows, "what is kept is not drawn again"


def test_what_has_a_name_counts_as_its_name_says() -> None:
    with quick_explainer() as explainer:
        found = explainer.explain("boat", **QUICK | {"n_tokens": 2})
    problem = problem_of()
    assert torch.equal(soft_of_name_or_prompt(problem, found), found.prompt_embeds)
    named = replace(found, named={"words": ["snow"]})
    assert torch.equal(soft_of_name_or_prompt(problem, named), soft_from_text(problem.pipeline, "snow", 2))
    for words in ([], ["snow"] * 3):  # no name, and one that does not fit
        assert torch.equal(soft_of_name_or_prompt(problem, replace(found, named={"words": words})), found.prompt_embeds)


def test_a_further_explanation_looks_away_from_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with quick_explainer() as explainer:
        found = explainer.explain("boat", **QUICK | {"n_tokens": 2})
    problems: list[Problem] = []
    monkeypatch.setattr(otherwise, "explain_target", lambda problem, *_: problems.append(problem) or found)
    problem = problem_of()
    otherwise.explain_otherwise(problem, Options(), replace(found, named={"words": ["snow"]}), 2)
    assert torch.equal(problems[0].others[0], soft_from_text(problem.pipeline, "snow", 2))


def test_a_description_is_of_what_is_not_explained_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = tiny_problem(dx.ClassLogit("star")).with_steps(2)
    softs, promises = softs_of(problem, YELLOW[:1] + OTHER[:1]), list[torch.Tensor]()
    plain = looked_at(problem, ["test"], softs, [0, 1], Kept(cost=problem.cost))
    weights = describing._weights
    monkeypatch.setattr(describing, "_weights", lambda *given: promises.append(given[1]) or weights(*given))
    monkeypatch.setattr(describing, "STEPS", (1,))
    for less in (torch.zeros(2), torch.tensor([8.0, 0.0])):
        seen = plain._replace(promise=plain.promise - less.double(), lost=less.double())
        describing.described(problem, Options(), 0, seen, 2, Kept(cost=problem.cost))
    order = (plain.promise - torch.tensor([8.0, 0.0])).argsort(descending=True)
    first = plain.promise.argsort(descending=True)
    torch.testing.assert_close(promises[0], plain.promise[first], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(promises[1], (plain.promise - torch.tensor([8.0, 0.0]))[order], rtol=1e-3, atol=1e-3)


def test_a_loss_is_in_log_odds_of_a_class_and_else_in_spreads_of_the_promises() -> None:
    share, promise = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0]).double()
    assert lost(tiny_problem(), promise, share).tolist() == [0.0, 4.0, 8.0]
    unit = tiny_problem(Neuron("resnet.embedder", 1))
    assert lost(unit, 10 * promise, share).tolist() == pytest.approx([0.0, 15.0, 30.0])
    assert lost(unit, promise[:1], share[2:]).tolist() == [0.0]
