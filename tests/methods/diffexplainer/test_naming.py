"""Names of what a search found: which words they hold, when there is none, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.search.cells import classifier_of
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import naming, replacing, telling, texts
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.naming import name_found
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, look_again, soft_from_text
from diffexplain_fast.methods.diffexplainer.telling import telling_words
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.named import Named
from diffexplain_fast.runs.spending import Limit
from diffexplain_fast.targets import ClassProbability
from tests.methods.diffexplainer.test_population import Certain, problem_of

OPTIONS = Options(n_tokens=3, n_validation=8)
SHOWN = ["blue", "house", "desert", "tree"]


def each(probability: float) -> Tensor:
    """Return the scores of eight pictures; their mean is the probability."""
    return probability + 0.01 * torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)


def named_as(
    monkeypatch: pytest.MonkeyPatch,
    convincing: dict[frozenset[str], float],
    prompt: float = 0.98,
    shown: Sequence[str] = SHOWN,
    exact: Mapping[str, float] | None = None,
    in_most: Sequence[str] = (),
    others: Sequence[str] = (),
    rows: int | None = None,
) -> Named:
    """Name a prompt in a world where texts that hold all words of a key convince with the probability beside it.

    Texts of ``exact`` convince with theirs. Words ``in_most`` are shown by most pictures, and those ``shown`` by all;
    the denoiser was asked about ``others`` too. A look takes eight ``rows``, of which so many may be spent.
    """

    def score(text: str) -> float:
        if exact and text in exact:
            return exact[text]
        said = set(text.split())
        return max((value for words, value in convincing.items() if words <= said), default=0.02)

    def screen(problem: Problem, texts: list[str], *_: Any) -> list[Start]:
        return [Start(text, soft_from_text(problem.pipeline, text, 3), score(text)) for text in texts]

    def look(problem: Problem, start: Start, count: int, kept: Kept) -> Start:
        problem.cost.count(8, gradient=False)
        probability = prompt if start is found else score(start.name)
        return replace(start, score=probability, each=each(probability)[:count])

    def by_turns(problem: Problem, options: Options, texts: list[str]) -> Tensor:
        return torch.tensor([score(texts[i % len(texts)]) for i in range(options.n_validation)], dtype=torch.float64)

    def telling(*_: Any, of_most: bool = False) -> tuple[list[str], list[str]]:
        return [*(in_most if of_most else shown)], [*others]

    monkeypatch.setattr(naming, "telling_words", telling)
    monkeypatch.setattr(texts, "screen", screen)
    monkeypatch.setattr(naming, "look_again", look)
    monkeypatch.setattr(replacing, "_scores", by_turns)
    monkeypatch.setattr("diffexplain_fast.methods.diffexplainer.dictionary.look_again", look)
    problem = problem_of()
    problem.cost.limit = Limit(rows=rows)
    found = Start("search 0.0", soft_from_text(problem.pipeline, "boat", 3))
    name, starts = name_found(problem, OPTIONS, found, Kept(cost=problem.cost))
    assert name is not None and [start.name for start in starts[:1]] == [" ".join(name["tried"])]
    return name


def test_a_pair_is_named_with_what_each_word_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    name = named_as(monkeypatch, {frozenset({"blue", "desert"}): 0.97})
    assert name["words"] == ["blue", "desert"] and name["pictures"] == 8
    assert (name["probability"], name["prompt_probability"]) == pytest.approx((0.97, 0.98), abs=1e-9)
    assert name["without"] == pytest.approx({"blue": 0.02, "desert": 0.02}, abs=1e-9)


def test_one_of_two_things_that_serve_is_named_though_not_all_pictures_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    serve, shown = {frozenset({"desert"}): 0.97, frozenset({"blue"}): 0.96}, ["tree", "house"]
    name = named_as(monkeypatch, serve, shown=shown, in_most=["tree", "blue", "desert"])
    assert name["words"] == ["desert"] and name["shown"] == ["tree", "house", "blue", "desert"]
    assert named_as(monkeypatch, serve, shown=shown)["words"] == []
    assert named_as(monkeypatch, serve, shown=["blue"], in_most=["desert"])["words"] == ["blue"]


def test_a_word_that_others_fit_the_pictures_better_than_is_drawn_too_where_those_do_not_convince(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve, shown = {frozenset({"desert"}): 0.97}, ["tree", "house"]
    name = named_as(monkeypatch, serve, shown=shown, others=["blue", "desert"])
    assert name["words"] == ["desert"] and name["shown"] == shown
    weak = {frozenset({"desert"}): 0.4, frozenset({"desert", "tree"}): 0.97}
    assert set(named_as(monkeypatch, weak, shown=shown, others=["blue", "desert"])["words"]) == {"desert", "tree"}
    enough = {frozenset({"tree"}): 0.7, frozenset({"desert"}): 0.97}
    assert named_as(monkeypatch, enough, shown=shown, others=["desert"])["words"] == ["tree"]


def test_words_of_most_pictures_leave_out_the_third_that_they_fit_worst() -> None:
    gains = torch.tensor([45.0, -580.0, 58.0, 14.0, 17.0, -543.0])
    assert telling._mean(gains, of_most=False) == pytest.approx(-164.8, abs=0.1)
    assert telling._mean(gains, of_most=True) == pytest.approx(33.5)


def test_an_entry_of_a_vocabulary_that_has_a_space_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = ["blue house", "desert", "tree"]
    name = named_as(monkeypatch, {frozenset({"blue", "house", "desert"}): 0.97}, shown=entries)
    assert name["words"] == ["blue house", "desert"] and set(name["without"]) == {"blue house", "desert"}


def test_a_word_that_a_name_does_not_need_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    by_chance = {frozenset({"desert"}): 0.97, frozenset({"desert", "house"}): 0.99}
    assert named_as(monkeypatch, by_chance)["words"] == ["desert"]


@pytest.mark.parametrize(
    ("others", "nothing", "words"),
    [(0.7, 0.4, ["blue"]), (0.02, 0.62, ["blue"]), (0.5, 0.4, ["blue", "house"])],
    ids=["others serve", "nothing serves", "needed"],
)
def test_a_word_in_whose_place_others_serve_is_tried_but_not_in_the_name(
    monkeypatch: pytest.MonkeyPatch, others: float, nothing: float, words: list[str]
) -> None:
    known = {("blue",): nothing, ("blue", "house"): 0.9, ("blue", "fish"): others, ("blue", "tree"): others}
    name = named_as(monkeypatch, {frozenset(said): score for said, score in known.items()})
    assert name["words"] == words and name["tried"] == ["blue", "house"]
    assert name["without"] == pytest.approx({"blue": 0.02, "house": nothing}, abs=1e-9)


@pytest.mark.parametrize(("beside", "word"), [(0.4, "blue"), (0.8, "desert")])
def test_of_words_that_convince_as_often_the_one_that_does_so_beside_labels_is_named(
    monkeypatch: pytest.MonkeyPatch, beside: float, word: str
) -> None:
    exact = {"desert": 0.7} | {f"desert {label}": beside for label in ("fish", "house", "tree")}
    assert named_as(monkeypatch, {frozenset({"blue"}): 0.7}, shown=["desert", "blue"], exact=exact)["words"] == [word]


def test_words_of_which_either_may_be_needed_are_both_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    convincing = {frozenset(said): score for said, score in {("blue",): 0.62, ("house",): 0.62}.items()}
    convincing[frozenset({"blue", "house"})] = 0.95
    assert set(named_as(monkeypatch, convincing)["words"]) == {"blue", "house"}


def test_pictures_of_labels_in_the_place_of_a_word_are_scored_by_turns() -> None:
    problem = problem_of()
    texts = replacing._texts(problem, OPTIONS, ("house", "tree"), "tree")
    assert texts == ["house fish"], "neither the class nor a word of the text"
    (scores,) = {tuple(replacing._scores(problem, OPTIONS, texts * n).tolist()) for n in (1, 3)}
    again = look_again(problem, Start("house fish", soft_from_text(problem.pipeline, "house fish", 3)), 8, Kept())
    assert again.each is not None and scores == pytest.approx(again.each.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "without", "untested"),
    [
        (24, [], ["blue", "desert"]),
        (32, ["blue"], ["blue", "desert"]),
        (40, ["blue", "desert"], ["blue", "desert"]),
        (None, ["blue", "desert"], None),
    ],
)
def test_words_that_the_budget_left_untested_are_recorded(
    monkeypatch: pytest.MonkeyPatch, rows: int | None, without: list[str], untested: list[str] | None
) -> None:
    name = named_as(monkeypatch, {frozenset({"blue", "desert"}): 0.97}, rows=rows)
    assert name["words"] == ["blue", "desert"] and [*name["without"]] == without
    assert name.get("untested") == untested


def test_labels_that_say_a_word_of_the_text_or_the_name_of_the_class_do_not_stand_in_its_place() -> None:
    problem = problem_of()
    for labels, kept in (
        (("boat", "fish", "House", "Tree"), ["house fish"]),
        (("boat", "Boat", "red fish", "blue TREE"), ["house red fish"]),
    ):
        problem.classifier.labels = labels
        assert replacing._texts(problem, OPTIONS, ("house", "tree"), "tree") == kept
    assert replacing._texts(problem, OPTIONS, ("house", ""), "") == ["house red fish", "house blue TREE"]


def test_a_third_word_is_tried_where_two_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    three = {frozenset({"blue", "desert"}): 0.3, frozenset({"blue", "desert", "tree"}): 0.97}
    name = named_as(monkeypatch, three)
    assert set(name["words"]) == {"blue", "desert", "tree"} and set(name["without"]) == set(name["words"])


@pytest.mark.parametrize(("best", "prompt"), [(0.64, 0.98), (0.4, 0.41)], ids=["worse than the prompt", "convince few"])
def test_words_that_do_not_convince_as_the_prompt_does_name_nothing(
    monkeypatch: pytest.MonkeyPatch, best: float, prompt: float
) -> None:
    name = named_as(monkeypatch, {frozenset({"house"}): best}, prompt)
    assert name["words"] == [] and name["without"] == {}
    assert name["tried"] == ["house"] and name["shown"] == SHOWN


def test_rows_of_a_naming_are_counted_and_limited() -> None:
    problem, cut = problem_of(Certain()), problem_of(Certain())
    soft = soft_from_text(problem.pipeline, "a boat", 2)
    words, others = telling_words(problem, "search 0.0", soft, Kept(cost=problem.cost))
    assert len(words) <= telling.TOLD and len(words + others) <= telling._PRESELECTED
    assert len(words + others) == len({*words, *others}) and {*words, *others} <= set(problem.pipeline.words())
    known = sum(len(word) >= 3 for word in problem.pipeline.words())
    asked = (1 + min(known, telling._BETTER)) * telling._MORE + (1 + min(known, telling._PRESELECTED)) * telling._FEW
    assert problem.cost.gradient == telling._GRADIENTS
    assert problem.cost.forward == telling.PICTURES + asked, "a picture takes one row"
    cut.cost.limit = Limit(rows=telling.PICTURES + telling._GRADIENTS + telling._FEW + telling._MORE + 1)
    telling_words(cut, "search 0.0", soft, Kept(cost=cut.cost))
    assert cut.cost.rows <= (cut.cost.limit.rows or 0) + telling._FEW and cut.cost.left_out == [NAMING]


def test_pictures_of_which_hardly_any_convinces_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of()
    monkeypatch.setattr(Problem, "promise", lambda self, scores: torch.full_like(scores.score, -1.0))
    assert telling_words(problem, "search 0.0", soft_from_text(problem.pipeline, "boat", 2), Kept()) == ([], [])
    assert problem.cost.rows == telling.PICTURES


@pytest.mark.slow
def test_a_planted_pair_is_named_by_its_two_words_and_not_by_what_else_is_in_the_pictures() -> None:
    pipeline, classifier = load_pipeline("tinyworld"), classifier_of("all-of")
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=8, guidance_scale=4.0)
    problem = Problem(pipeline, sampler, classifier, ClassProbability("fish").bind(classifier), "", 0)
    kept, soft = Kept(cost=problem.cost), pipeline.token_embeddings("a purple house on desert").detach().float()
    name, starts = name_found(problem, OPTIONS, Start("search 0.0", soft), kept)
    assert name is not None and set(name["words"]) == {"purple", "desert"} == set(starts[0].name.split())
    assert max(name["without"].values()) < 0.5 < name["probability"]
    assert name["rows"] == problem.cost.rows
