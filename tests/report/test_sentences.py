"""The verdict follows from the rates, and says so in sentences."""

import pytest

from diffexplain_fast.report.explanation import describe_outcome
from diffexplain_fast.report.sentences import nearest_words, verdict_of
from diffexplain_fast.results.audit_rows import FoundFeature
from diffexplain_fast.results.explanation import ActivationScore, Word, first_words
from diffexplain_fast.results.named import Named
from tests.explaining import NAMED
from tests.report.pages import example


def test_the_outcome_is_told_in_a_sentence() -> None:
    assert describe_outcome(example()) == (
        "30 of 32 pictures from unseen draws are classified as boat; with only the class name as the prompt, 8 of 32."
    )


@pytest.mark.parametrize(
    ("held_out", "name", "said"),
    [
        ((30, 0.8), (8, 0.42), "The classifier answers “boat” to pictures of “snow boat”: 30 of 32 (94 %)"),
        ((30, 0.8), (8, 0.42), "8 of 32 (25 %), clearly fewer."),
        ((14, 0.28), (9, 0.45), "only some pictures of “snow boat”: 14 of 32 (44 %) from unseen start noise."),
        ((14, 0.28), (9, 0.45), "9 of 32 (28 %), which is no clear difference."),
        ((0, 0.0), (30, 0.98), "No convincing pictures were found: the classifier answers “boat” to none of 32"),
        ((0, 0.0), (30, 0.98), "clearly more: the name convinces the classifier better than this explanation."),
    ],
)
def test_the_verdict_follows_from_the_rates(held_out: tuple, name: tuple, said: str) -> None:
    def score(hits: int, low: float, high: float) -> ActivationScore:
        return ActivationScore(32, hits / 32, (low, high), 0.0, 0.5)

    hits, low = held_out
    scores = {"held_out": score(hits, low, max(0.1, hits / 32)), "class_name": score(name[0], name[0] / 40, name[1])}
    verdict = verdict_of(example(activation=scores))
    assert said in " ".join([verdict.headline, *verdict.more])
    assert verdict.level == {30: "yes", 14: "some", 0: "no"}[hits] and verdict.short == f"{hits} of 32"
    assert verdict.shortcuts == ["snow"]


@pytest.mark.parametrize(
    ("words", "said"),
    [("a a kite", "kite"), ("snow snow a snow", "snow"), ("red kite red", "red kite red"), ("a a", "a")],
)
def test_words_are_said_without_articles_and_without_repetitions(words: str, said: str) -> None:
    tokens = [[Word(word, 0.9)] for word in words.split()]
    assert f"pictures of “{said}”" in verdict_of(example(words=tokens)).headline


@pytest.mark.parametrize(
    ("hits", "said"),
    [
        (30, "to the pictures of the explanation: 30"),
        (14, "to only some of the pictures of the explanation: 14 of 32"),
        (0, "to none of the 32 pictures of the explanation."),
    ],
)
def test_pictures_without_a_name_are_counted_in_a_sentence_too(hits: int, said: str) -> None:
    scores = {"held_out": ActivationScore(32, hits / 32, (0.9 * hits / 32, hits / 32 or 0.1), 0.0, 0.5)}
    verdict = verdict_of(example(words=[[Word("snow", 0.3)]], activation=scores))
    assert said in verdict.headline


@pytest.mark.parametrize(
    ("hits", "n", "said"),
    [
        (3, 3, "to all of the pictures of the explanation: 3 of 3 (100 %) from unseen start noise, too few to be sure"),
        (5, 8, "to most of the pictures of the explanation: 5 of 8 (62 %) from unseen start noise, too few to be sure"),
        (4, 8, "to only some of the pictures of the explanation: 4 of 8 (50 %) from unseen start noise."),
        (1, 1, "to the only picture of the explanation: 1 of 1 (100 %) from unseen start noise, too few to be sure"),
        (0, 1, "found: the classifier does not answer “boat” to the only picture of the explanation."),
        (0, 2, "found: the classifier answers “boat” to none of the 2 pictures of the explanation."),
    ],
)
def test_the_words_of_a_verdict_fit_its_count(hits: int, n: int, said: str) -> None:
    scores = {"held_out": ActivationScore(n, hits / n, (0.3 * hits / n, 1.0), 0.0, 0.5)}
    assert said in verdict_of(example(words=[[Word("snow", 0.3)]], activation=scores)).headline


def test_the_words_of_a_verdict_fit_its_count_for_named_pictures_and_independent_classes() -> None:
    scores = {"held_out": ActivationScore(3, 1.0, (0.4, 1.0), 0.0, 0.5)}
    headline = verdict_of(example(activation=scores, output="sigmoid")).headline
    assert headline.startswith("The classifier sees “boat” in all pictures of “snow boat”: 3 of 3 (100 %)")
    none = {"held_out": ActivationScore(1, 0.0, (0.0, 0.8), 0.0, 0.5)}
    headline = verdict_of(example(activation=none, output="sigmoid")).headline
    assert headline.endswith("the classifier does not see “boat” in the only picture of “snow boat”.")


@pytest.mark.parametrize(("effect", "verb"), [(2.4, "raise fish by +2.4"), (-2.4, "change fish by -2.4")])
def test_a_negative_effect_does_not_raise(effect: float, verb: str) -> None:
    ends = (effect, effect - 1, effect + 1)
    feature = FoundFeature("fish", ["sea"], *ends, *[None] * 7, [], "not confirmed")
    assert feature.sentence.startswith(f"tokens near sea {verb} [")


def test_a_name_of_two_words_that_count_together_is_a_shortcut() -> None:
    pair = {"first": "colour:Blue", "second": "background:desert", "effect": 6.1, "interval": [6.0, 6.2]}
    verdict = verdict_of(example(named=NAMED, truth={"attributes": [], "interactions": [pair]}))
    assert verdict.shortcuts == ["Blue and desert together"]
    assert verdict.more[-1] == "According to the measured truth, “Blue and desert together” is a shortcut."
    for other in ({**pair, "effect": 0.9}, {**pair, "first": "colour:red"}):
        assert not verdict_of(example(named=NAMED, truth={"attributes": [], "interactions": [other]})).shortcuts


def test_a_name_is_said_with_what_its_words_are_worth_and_not_as_the_prompt() -> None:
    found = verdict_of(example(words=[[Word("kite", 0.9)]], named=NAMED))
    assert "to the pictures of the explanation: 30 of 32" in found.headline
    assert found.more[1:3] == [
        "“blue desert” names what was found: pictures of only these words convince "
        "(mean probability 0.82 over 12 pictures, of the prompt that was found: 0.92).",
        "Every word is needed: 0.03 without “blue” and 0.45 without “desert”.",
    ]
    assert nearest_words(example(named=NAMED)) == "blue desert"
    assert first_words(example(named=NAMED)) == ["blue", "desert"]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (
            {"probability": 0.7, "without": {"blue": 0.65, "desert": 0.65}},
            ["Either word alone does nearly as well: 0.65 without “blue” and 0.65 without “desert”."],
        ),
        (
            {"probability": 0.7, "without": {"blue": 0.5, "desert": 0.46}},
            ["Not every word is needed: 0.50 without “blue” and 0.46 without “desert”."],
        ),
        (
            {"without": {"blue": 0.03}, "untested": ["blue", "desert"]},
            ["Measured: 0.03 without “blue”.", "The budget ended before it was tested whether “desert” is needed."],
        ),
        ({"without": {}}, ["The budget ended before it was tested whether “blue” and “desert” are needed."]),
        (
            {"untested": ["blue", "desert"]},
            [
                "Measured: 0.03 without “blue” and 0.45 without “desert”.",
                "The budget ended before others were tried in the place of “blue” and “desert”.",
            ],
        ),
        ({"tried": ["blue"], "words": ["blue"], "without": {}}, []),
    ],
)
def test_a_word_is_said_to_be_needed_only_where_that_was_measured(measured: dict, said: list[str]) -> None:
    named = Named({**NAMED, **measured})
    assert verdict_of(example(named=named)).more[2:] == said


def test_a_word_that_only_helps_to_draw_the_others_is_said_to_do_so() -> None:
    found = verdict_of(example(named=Named({**NAMED, "words": ["blue"]})))
    assert found.more[1:3] == [
        "“blue” names what was found: pictures of only “blue desert” convince "
        "(mean probability 0.82 over 12 pictures, of the prompt that was found: 0.92).",
        "“desert” only helps to draw it: pictures without it, or with others in its place, convince too.",
    ]
    assert nearest_words(example(named=Named({**NAMED, "words": ["blue"]}))) == "blue"


def test_nothing_is_named_where_no_words_convince_as_the_prompt_does() -> None:
    unnamed = Named({**NAMED, "words": [], "without": {}, "probability": 0.2, "tried": ["house"]})
    found = verdict_of(example(words=[[Word("kite", 0.9)]], named=unnamed))
    assert "“kite”" not in " ".join([found.headline, *found.more])
    assert nearest_words(example(named=unnamed)) == "no words name it"
    assert found.more[1] == (
        "No words were found that convince as the prompt does: look at the pictures. The best that were tried are "
        "“house” (mean probability 0.20 over 12 pictures, of the prompt that was found: 0.92)."
    )


@pytest.mark.parametrize(
    ("of_words", "of_prompt", "said"),
    [
        (0.35, 0.35, "“house” did as well as the prompt, but both are below the 0.50 that a name needs"),
        (0.3, 0.45, "“house” did nearly as well as the prompt, but both are below the 0.50 that a name needs"),
        (0.45, 0.6, "“house” did nearly as well as the prompt, but that is below the 0.50 that a name needs"),
        (0.2, 0.45, None),
        (0.45, 0.7, None),
        (0.55, 0.9, None),
    ],
)
def test_words_that_only_convince_too_rarely_are_not_said_to_be_worse_than_the_prompt(
    of_words: float, of_prompt: float, said: str | None
) -> None:
    tried = {"words": [], "without": {}, "tried": ["house"], "probability": of_words, "prompt_probability": of_prompt}
    one = example(named=Named({**NAMED, **tried}))
    worse = "No words were found that convince as the prompt does: look at the pictures. The best that were tried are "
    figures = f"(mean probability {of_words:.2f} over 12 pictures, of the prompt that was found: {of_prompt:.2f})."
    assert verdict_of(one).more[1] == (
        f"{worse}“house” {figures}"
        if said is None
        else f"No words name what was found: look at the pictures. {said} {figures}"
    )
    assert nearest_words(one) == ("no words name it" if said is None else "no words convince often enough to name it")
    assert "No words were found" in " ".join(verdict_of(example(named=Named({**NAMED, **tried, "tried": []}))).more)


@pytest.mark.parametrize(
    ("near", "headline", "said"),
    [
        ((1.0, 0.9), "to pictures of “kite sun”", None),
        (
            (1.0, 0.3),
            "to pictures of “kite”",
            "A part of the prompt has no name: look at the pictures. The nearest words are “sun”.",
        ),
        (
            (0.5, 0.3),
            "to the pictures of the explanation",
            "No words name the prompt: look at the pictures. The nearest words are “kite”, “sun”.",
        ),
    ],
)
def test_a_word_that_is_only_near_names_nothing(near: tuple[float, float], headline: str, said: str | None) -> None:
    words = [[Word("a", 1.0)], *([Word(word, one)] for word, one in zip(("kite", "sun"), near, strict=True))]
    found = verdict_of(example(words=words))
    assert headline in found.headline
    assert (said in found.more) if said else not any("name the" in one or "no name" in one for one in found.more)
