"""Starts: the words that screening ranks, and what becomes of the soft tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import starts as choosing
from diffexplain_fast.methods.diffexplainer import vocabulary
from diffexplain_fast.methods.diffexplainer.album import Album
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, beats, look_again, soft_from_text
from diffexplain_fast.methods.diffexplainer.starts import choose_starts
from diffexplain_fast.methods.diffexplainer.vocabulary import labels_left_out
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import ClassLogit
from tests.explaining import QUICK, quick_explainer
from tests.tiny import LABELS, tiny_classifier, tiny_sd

WHOLE_WORDS = {"photo", "the", "tree", "red", "blue", "boat", "fish", "house", "snow", "desert"}


@pytest.fixture
def problem() -> Problem:
    pipeline, classifier = load_pipeline(tiny_sd()), Classifier(tiny_classifier(), labels=LABELS)
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=1, guidance_scale=1.0)
    return Problem(pipeline, sampler, classifier, ClassLogit("boat").bind(classifier), "", 0)


def starts(problem: Problem, class_name: str | None = "boat", n_tokens: int = 1, **options: object) -> list[Start]:
    options = {"restarts": 0, **options}  # else a search follows words that fail
    return choose_starts(problem, Options(n_tokens=n_tokens, **options), class_name, Kept(), lambda done, total: None)


def test_a_text_ends_the_soft_tokens_after_neutral_words(problem: Problem) -> None:
    soft = soft_from_text(problem.pipeline, "boat", 3)
    neutral, boat = problem.pipeline.token_embeddings("a"), problem.pipeline.token_embeddings("boat")
    assert torch.equal(soft, torch.cat([neutral, neutral, boat]))


def test_screening_ranks_every_whole_word_of_a_small_vocabulary(problem: Problem) -> None:
    found = starts(problem)
    assert {start.name for start in found[:-1]} == WHOLE_WORDS
    assert found[-1].name == "random 0"
    if found[0].name == "boat":
        assert not beats(max(found[1:4], key=lambda start: start.score), found[0])
    else:
        assert found[0].score == max(start.score for start in found[:4])
    for scores in (
        # The class's own name may be put before others that beat it by chance, and before no others.
        [start.score for start in found[:4] if start.name != "boat"],
        [start.score for start in found[4:-1] if start.name != "boat"],
    ):
        assert scores == sorted(scores, reverse=True), [(start.name, start.score) for start in found]


@pytest.mark.parametrize(
    ("of_words", "of_prompt", "fresh", "first"),
    [
        (0.98, 0.99, (0.97, 0.99), "words"),
        (0.94, 0.99, (0.70, 0.98), "prompt"),
        (0.99, 0.94, (0.70, 0.98), "prompt"),
        (0.98, 0.99, (0.85, 0.98), "prompt"),
        (0.91, 0.99, (0.99, 0.70), "words"),
        (0.50, 0.99, None, "prompt"),
        (0.99, 0.40, None, "words"),
    ],
    ids=["equal", "lucky", "lucky and before", "not little", "unlucky", "worse", "better"],
)
def test_words_go_first_where_a_prompt_beats_them_by_little_on_fresh_latents(
    problem: Problem,
    monkeypatch: pytest.MonkeyPatch,
    of_words: float,
    of_prompt: float,
    fresh: tuple[float, float] | None,
    first: str,
) -> None:
    def start(name: str, score: float) -> Start:
        apart = torch.tensor([0.25, -0.25] * 6) * (1 if name == "words" else -1)  # a gain of .24 is more than chance
        return Start(name, torch.zeros(1, 2), score, score + apart)

    def look(problem: Problem, one: Start, count: int, kept: Kept, stage: str) -> Start:
        assert stage != "validation" and count == 12 and fresh is not None
        return start(one.name, fresh[one.name == "prompt"])

    monkeypatch.setattr(choosing, "look_again", look)
    words, prompt = start("words", of_words), start("prompt", of_prompt)
    found = choosing._words_first(problem, Options(), [words], [prompt], Kept())
    assert [one.name for one in found] == [first, *{"words", "prompt"} - {first}]
    assert choosing._words_first(problem, Options(), [], [prompt], Kept()) == [prompt]


def test_a_fresh_look_draws_other_pictures(problem: Problem) -> None:
    boat, kept = Start("boat", soft_from_text(problem.pipeline, "boat", 1)), Kept()
    first, other = look_again(problem, boat, 4, kept), look_again(problem, boat, 4, kept, "choice")
    assert first.each is not None and other.each is not None and not torch.equal(first.each, other.each)
    assert torch.equal(look_again(problem, boat, 4, kept).each, first.each)


def test_a_screened_score_is_the_target_of_the_start_itself(problem: Problem) -> None:
    best = starts(problem)[0]
    with torch.no_grad():
        alone = problem.scores(problem.images(problem.encode_soft(best.soft), "validation", range(12)))
    assert best.score == pytest.approx(float(alone.probability.mean()), rel=1e-4)


def test_the_class_name_joins_the_candidates_in_auto_alone(problem: Problem) -> None:
    given = {"candidates": ["red", "blue"]}
    assert {start.name for start in starts(problem, **given)} == {"red", "blue", "boat", "random 0"}
    assert {start.name for start in starts(problem, start="screen", **given)} == {"red", "blue", "random 0"}


def test_words_that_the_tokenizer_reads_as_the_same_are_one_start(problem: Problem) -> None:
    given = {"start": "screen", "n_tokens": 2}
    written = ["snow", "snow", "Snow", " snow", "snow\n"]
    assert [start.name for start in starts(problem, None, candidates=written, **given)] == ["snow", "random 0"]
    pairs = starts(problem, None, candidates=[" red  snow ", "Red snow", "RED", "Snow"], **given, n_validation=2)
    assert {start.name for start in pairs} <= {"red snow", "RED", "Snow", "Snow RED", "random 0"}
    assert sum(start.name == "red snow" for start in pairs) == 1, "and no pair that was drawn as a candidate"


def test_a_class_name_that_is_a_candidate_to_the_tokenizer_is_no_other_start(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in ((" Boat", ["red", "boat"]), ("boat", ["red", "BOAT "])):
        found = [start.name for start in starts(problem, name, candidates=words, n_validation=2)]
        assert sorted(found) == sorted(["red", words[1].strip(), "random 0"])
    problem.classifier.labels = ("Boat", "boat", " boat", "tree")
    monkeypatch.setattr(vocabulary, "SMALL_VOCABULARY", 4)
    assert [start.name for start in starts(problem, "Boat", n_validation=2)[:2]] in (["Boat", "tree"], ["tree", "Boat"])


def test_screened_images_serve_the_next_target(problem: Problem) -> None:
    album = Album()
    options = Options(n_tokens=1, candidates=["red", "blue", "snow"], n_validation=1, restarts=0)
    first = choose_starts(problem, options, None, Kept(album), lambda done, total: None)
    drawn: list[int] = []
    handle = problem.pipeline.unet.register_forward_pre_hook(lambda *_: drawn.append(1))
    again = choose_starts(problem, options, None, Kept(album), lambda done, total: None)
    handle.remove()
    assert len(drawn) == 3, "each word is looked at again, none is screened again"
    assert [start.name for start in again] == [start.name for start in first]
    # A model with a hook runs through its own modules, which round otherwise.
    scores = [[start.score for start in starts if start.score is not None] for starts in (again, first)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_a_second_word_follows_the_best_one_where_one_is_not_enough(problem: Problem) -> None:
    found = starts(problem, n_tokens=2)
    pairs = [start for start in found if " " in start.name and not start.name.startswith("random")]
    assert 1 <= len(pairs) <= 4
    assert len({start.name.split()[0] for start in pairs}) == 1
    best = found[0]
    with torch.no_grad():
        images = problem.images(problem.encode_soft(best.soft), "validation", range(12))
    assert best.score == pytest.approx(float(problem.merit(problem.scores(images)).mean()), rel=1e-4)
    problem.target = (1.0 * ClassLogit("boat") + 0.5 * ClassLogit("fish")).bind(problem.classifier)
    assert not [s for s in starts(problem, n_tokens=2) if " " in s.name and not s.name.startswith("random")]


def test_random_starts_lie_near_the_vocabulary_and_differ(problem: Problem) -> None:
    first, second = starts(problem, start="random", restarts=1)
    table = problem.pipeline.word_table()
    assert not torch.equal(first.soft, second.soft)
    assert float((first.soft - table.mean(0)).abs().max()) < float(table.std())
    assert torch.equal(first.soft, starts(problem, start="random")[0].soft)


def test_words_and_class_names_are_taken_as_they_are(problem: Problem) -> None:
    (given,) = starts(problem, start="red fish", n_tokens=2)
    assert torch.equal(given.soft, problem.pipeline.token_embeddings("red fish"))
    (named,) = starts(problem, start="class_name")
    assert named.name == "boat"


def test_a_search_follows_words_that_fail_and_takes_the_best_of_them_along(problem: Problem) -> None:
    found = starts(problem, restarts=1, restart_below=1.0, candidates=["red", "blue", "snow"])
    for start in found:
        searched = start.name.startswith("search")
        assert start.origin in ({"gradient", "description"} if searched else {"dictionary"}), start
    assert {start.name for start in found} == {"red", "blue", "snow", "boat", "search 0.0", "search 0.1"}
    enough = starts(problem, restarts=1, restart_below=0.0, candidates=["red", "blue", "snow"])
    assert {start.name for start in enough} == {"red", "blue", "snow", "boat", "random 0"}


def test_a_start_that_does_not_fit_is_named(problem: Problem) -> None:
    with pytest.raises(ValueError, match=r"^start: wanted .* n_tokens = 2 .*'a red fish' with 3"):
        starts(problem, start="a red fish", n_tokens=2)
    with pytest.raises(ValueError, match=r"^start: wanted a target that is a class"):
        starts(problem, class_name=None, start="class_name")
    with pytest.raises(ValueError, match=r"^candidates: wanted"):
        starts(problem, start="screen", candidates=["a photo of the boat"])


@pytest.mark.parametrize("start", ["auto", "screen", "gradient", "random", "boat"])
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("a red fish", "a text of 1 to n_tokens = 2 tokens, got 'a red fish' with 3"),
        ("海", "tokenizer knows, got '海'"),
    ],
)
def test_a_candidate_that_cannot_be_said_is_refused_before_anything_is_drawn(
    problem: Problem, start: str, word: str, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"^candidates: wanted .*{said}"):
        starts(problem, start=start, n_tokens=2, candidates=["red", word])
    assert problem.cost.rows == 0
    with quick_explainer() as explainer, pytest.raises(ValueError, match=rf"^candidates: wanted .*{said}"):
        explainer.explain("boat", **QUICK | {"start": start, "candidates": ["red", word]})


def test_all_candidates_that_cannot_be_said_are_named_at_once(problem: Problem) -> None:
    with pytest.raises(ValueError, match=r"got 'red boat' with 2; nor can 'blue fish', 'the house' be said"):
        starts(problem, candidates=["red boat", "fish", "blue fish", "the house"])


def test_a_start_that_the_tokenizer_cannot_spell_is_refused(problem: Problem) -> None:
    for text in ("海", "red 海"):
        with pytest.raises(ValueError, match=rf"^start: wanted text whose every character .* got '{text}'"):
            starts(problem, start=text, n_tokens=2)
    problem.classifier.labels = ("海", *LABELS[1:])
    with pytest.raises(ValueError, match=r"^start: wanted text whose every character"):
        starts(problem, "海", start="class_name", n_tokens=2)


def test_labels_that_cannot_be_said_are_left_out_and_recorded(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem.classifier.labels = ("海", "a red fish", "house", "tree")

    def left_out(start: str, **options: Any) -> list[str]:
        return labels_left_out(problem, Options(n_tokens=2, start=start, **options))

    assert left_out("random") == left_out("auto") == ["海"], "labels are not screened where the vocabulary is small"
    assert "海" not in {start.name for start in starts(problem, "海", n_tokens=2)}
    monkeypatch.setattr(vocabulary, "SMALL_VOCABULARY", 4)
    assert left_out("screen") == left_out("auto") == ["海", "a red fish"]
    assert left_out("screen", candidates=["red"]) == ["海"]
    drawn = {start.name for start in starts(problem, "海", n_tokens=2, start="screen") if " " not in start.name}
    assert drawn == {"house", "tree"}


def test_a_class_whose_name_cannot_be_spelled_is_explained_without_pictures_of_its_name() -> None:
    with quick_explainer() as explainer:
        explainer.classifier.labels = ("海", *LABELS[1:])
        found = explainer.explain("海", **QUICK)
    assert found.label == "海" and "class_name" not in found.activation
    assert found.settings["class_name_prompt"] is None and found.settings["found"]["labels_left_out"] == ["海"]
    assert found.summary()


def test_scores_are_computed_once_and_only_kept_where_they_are_numbers() -> None:
    kept, computed = Kept(scores={'["screen", "red"]': [0.5, 0.25], '["screen", "fish"]': [0.5]}), []

    def score() -> Tensor:
        computed.append(1)
        return torch.tensor([1.0, 2.0])

    assert kept.scored(["screen", "red"], 2, score) == [0.5, 0.25] and not computed
    assert kept.scored(["screen", "fish"], 2, score) == [1.0, 2.0], "one score is not two"
    assert kept.scored(["screen", "fish"], 2, score) == [1.0, 2.0] and len(computed) == 1
    with pytest.raises(NonFiniteError, match=r'screening: wanted finite scores, got \[inf\] for \["screen", "boat"\]'):
        kept.scored(["screen", "boat"], 1, lambda: torch.tensor([float("inf")]))
    assert [key for key in kept.scores if "cost" not in key] == ['["screen", "red"]', '["screen", "fish"]']
    assert kept.words == 4, "two texts of each batch"
