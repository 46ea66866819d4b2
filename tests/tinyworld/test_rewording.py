"""The tiny world's taxonomy and wording: what captions say, and how a change of one attribute is said."""

from typing import Any

import pytest

from diffexplain_fast.tinyworld.grammar import VOCABULARY as HARDER
from diffexplain_fast.tinyworld.grammar import is_true, read_caption
from diffexplain_fast.tinyworld.rewording import WorldWording, world_taxonomy
from diffexplain_fast.tinyworld.words import ABSENCE, ATTRIBUTES, NOTHING, USUAL, VOCABULARY, WORLD

SCENE = {
    **{name: values[0] for name, values in ATTRIBUTES.items()},
    **ABSENCE,
    "companion": "kite",
    "object": "fish",
    "style": "scene",
}


@pytest.mark.parametrize("words", [VOCABULARY, HARDER], ids=["first", "harder"])
def test_the_taxonomy_has_every_public_value_once_below_its_groups(words: tuple[str, ...]) -> None:
    taxonomy = world_taxonomy(words)
    known = [name for name in WORLD if set(WORLD[name]) <= set(words)]
    expected = {f"{name}:{value}" for name in known for value in WORLD[name]}
    assert {c.name for c in taxonomy.concepts} == expected | {"object:nothing", "companion:nothing"}
    assert taxonomy.concept("background:desert").path == ("background", "day", "land", "desert")
    assert ("size" in known) == (words is HARDER)


@pytest.mark.parametrize("words", [VOCABULARY, HARDER], ids=["first", "harder"])
def test_a_changed_caption_says_the_change_and_all_else_as_before(words: tuple[str, ...]) -> None:
    wording = WorldWording(words)
    caption = wording.changed("", SCENE)
    for concept in world_taxonomy(words).concepts:
        changed = wording.changed(caption, {concept.category: concept.word})
        now = SCENE | {concept.category: concept.word}
        assert is_true(read_caption(changed), now), changed
        assert wording.said(changed)[concept.category] == concept.word
        if concept.word != SCENE[concept.category]:
            assert changed != caption or concept.word == USUAL


def test_absence_is_said_where_the_pipeline_knows_the_word_for_it() -> None:
    caption = "a red striped boat on sea with kite"
    assert WorldWording(VOCABULARY).changed(caption, {"companion": NOTHING}) == "a red striped boat on sea"
    assert WorldWording(HARDER).changed(caption, {"companion": NOTHING}) == "a red striped boat on sea with nothing"
    assert WorldWording(HARDER).changed(caption, {"object": NOTHING}) == "nothing on sea with kite"
    assert WorldWording(VOCABULARY).changed("a red boat on sea", {"texture": "plain"}) == "a red plain boat on sea"


def test_what_is_absent_has_no_region() -> None:
    wording = WorldWording(HARDER)
    assert wording.region("desert", "background") == "desert" and wording.region("kite", "companion") == "a kite"
    assert wording.region(NOTHING, "companion") is None and wording.region(USUAL, "size") is None


@pytest.mark.parametrize(
    ("text", "disputed"),
    [
        ("a red blue fish", {"colour": ["red", "blue"]}),
        ("A striped, plain boat.", {"texture": ["striped", "plain"]}),
        ("a red fish and a blue boat", {"colour": ["red", "blue"], "object": ["fish", "boat"]}),
        ("a warm blue fish", {"colour": ["warm", "blue"]}),
        ("a small nothing on sea with nothing", {"object": ["nothing", "small"]}),
        ("nothing on sea with kite with nothing", {"companion": ["kite", "nothing"]}),
        ("a red red fish", {}),
        ("a warm red thing on day sea with nothing", {}),
        ("a picture of nothing on sea with kite", {}),
    ],
)
def test_words_that_cannot_be_true_at_once_are_disputed_and_the_last_one_counts(text: str, disputed: Any) -> None:
    wording = WorldWording(HARDER)
    assert wording.disputed(text) == disputed
    assert all(wording.said(text)[name] == words[-1] for name, words in disputed.items() if words[0] != NOTHING)
    if disputed and "and" not in text and "," not in text:
        with pytest.raises(ValueError, match=f"^taxonomy: wanted phrases that say one .*{text}"):
            wording.parts(text)
    else:
        wording.parts(text)


def test_a_group_word_beside_a_value_of_it_leaves_the_value() -> None:
    wording = WorldWording(HARDER)
    for text in ("a warm red fish", "a red warm fish"):
        assert wording.said(text)["colour"] == "red" and wording.parts(text) == {"colour": "red", "object": "fish"}


def test_capitals_and_punctuation_of_a_caption_and_of_words_do_not_count() -> None:
    wording = WorldWording(HARDER)
    assert wording.said("A Red Boat, on Sea.") == wording.said("a red boat on sea")
    assert wording.changed("a red boat on sea", {"background": "Snow", "companion": "Nothing"}) == wording.changed(
        "a red boat on sea", {"background": "snow", "companion": NOTHING}
    )
    assert "plain" in WorldWording(VOCABULARY).changed("a red boat on sea", {"texture": "Plain"})
    assert wording.region("Desert", "background") == "desert" and wording.region("Nothing", "companion") is None
