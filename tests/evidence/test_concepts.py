"""Concepts: where they come from, and which are refused by which words."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.errors import CorruptFileError, UnknownNameError
from diffexplain_fast.evidence.concepts import Concepts, concepts_of, is_tiny_world
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld.words import ATTRIBUTES
from tests.auditing import quick_audit
from tests.explaining import quick_explainer
from tests.tiny import tiny_sd

GROUPS = {"background": ["desert", "snow"], "colour": ["red", "blue"]}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Return a pipeline whose tokenizer knows twelve words and cuts all others into letters."""
    return load_pipeline(tiny_sd())


@pytest.fixture(scope="module")
def world() -> Pipeline:
    """Return the pipeline of the tiny world."""
    return load_pipeline("tinyworld")


def test_names_join_group_and_value() -> None:
    found = Concepts(GROUPS, words=["tree"])
    assert found.names == ("background:desert", "background:snow", "colour:red", "colour:blue", "word:tree")


REFUSED = {
    "no concept": ({}, "at least one group of values, or free words, got none"),
    "an empty group": ({"background": []}, "background: wanted at least one value, got an empty list"),
    "a group of one": ({"background": ["snow"]}, "background: wanted at least two values"),
    "a value twice": ({"background": ["snow", "sea", "snow"]}, "background: wanted every value once, got snow twice"),
    "a name with a colon": ({"back:ground": ["snow", "sea"]}, "names without ':'"),
    "an empty value": ({"background": ["snow", ""]}, "names without ':'"),
    "the name of free words": ({"word": ["snow", "sea"]}, "groups of other names than 'word'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_list_is_refused(name: str) -> None:
    groups, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        Concepts(groups)


def test_the_wrong_kind_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(TypeError, match="concepts: wanted Concepts"):
        concepts_of(3, pipeline)
    with pytest.raises(TypeError, match="concepts, background: wanted a list of words, got str"):
        Concepts({"background": "snow"})
    with pytest.raises(ValueError, match="wanted at least one group of values, or free words, got an empty list"):
        concepts_of([], pipeline)
    with pytest.raises(ValueError, match="concepts, words: wanted every value once, got red twice"):
        concepts_of(["red", "red"], pipeline)


def test_declared_concepts_must_exist() -> None:
    assert Concepts(GROUPS, core={"fish": ["background:snow"]}).core == {"fish": ("background:snow",)}
    with pytest.raises(ValueError, match=r"core of fish: wanted concepts of the trial, got \['background:sea'\]"):
        Concepts(GROUPS, core={"fish": ["background:sea"]})


def test_fewer_words_leave_all_else_as_it_is() -> None:
    named: dict[str, Any] = {"core": {"fish": ["background:snow", "word:sea"]}, "similar": {"boat": ["word:sea"]}}
    whole = Concepts(GROUPS, words=["sea", "tree"], synonyms={"background:desert": ["sand"]}, **named)
    left = whole.with_words(["tree"])
    assert left.words == ("tree",) and left.core == {"fish": ("background:snow",)} and left.similar == {}
    rest = [field.name for field in fields(Concepts) if field.name not in ("words", "core", "similar")]
    assert "synonyms" in rest and all(getattr(left, name) == getattr(whole, name) for name in rest)
    assert whole.with_words(whole.words) == whole


def test_words_that_the_tokenizer_cuts_are_named(pipeline: Pipeline, world: Pipeline) -> None:
    assert concepts_of({"background": ["desert", "snow"]}, pipeline).names == ("background:desert", "background:snow")
    with pytest.raises(ValueError, match=r"concepts: wanted words that the tokenizer of .* knows, got zebra, cut"):
        concepts_of(["snow", "zebra"], pipeline)
    with pytest.raises(ValueError, match="got lighthouse, cut into letters or unknown"):
        concepts_of(["snow", "lighthouse"], world)


@pytest.mark.parametrize(
    "given",
    [
        ["desert", "snow", "Desert"],
        {"background": ["desert", "snow", "Desert"]},
        Concepts({"background": ["desert", "snow"]}, synonyms={"background:snow": ["Desert"]}),
    ],
)
def test_words_that_the_tokenizer_reads_as_the_same_are_refused(given: Any, world: Pipeline) -> None:
    with pytest.raises(ValueError, match=r"every value once, as the .* got 'desert' and 'Desert', which are the same"):
        concepts_of(given, world)


def test_a_taxonomy_gives_its_categories_as_groups_and_other_leaves_as_words(pipeline: Pipeline) -> None:
    tree = Taxonomy({"background": {"land": ["desert"], "cold": ["snow", "red"]}, "thing": ["boat"]})
    found = concepts_of(tree, pipeline)
    assert found.names == ("background:desert", "background:snow", "background:red", "word:boat")


def test_nothing_is_no_word_of_its_own(world: Pipeline) -> None:
    assert "companion:nothing" in concepts_of({"companion": ["sun", "nothing"]}, world).names


def test_the_tiny_world_has_its_attributes(world: Pipeline, pipeline: Pipeline) -> None:
    found = concepts_of(None, world)
    assert is_tiny_world(world) and not is_tiny_world(pipeline)
    assert set(found.names) >= {f"{name}:{value}" for name, values in ATTRIBUTES.items() for value in values}
    assert "companion:nothing" in found.names
    with pytest.raises(ValueError, match="concepts: wanted groups of values or words for StableDiffusionPipeline"):
        concepts_of(None, pipeline)


def test_files_of_both_kinds(tmp_path: Path, pipeline: Pipeline) -> None:
    text = tmp_path / "concepts.txt"
    text.write_text("# what we suspect\nbackground: desert, snow\ncolour: red, blue\ntree\n")
    assert concepts_of(text, pipeline) == Concepts(GROUPS, words=["tree"])
    json = tmp_path / "concepts.json"
    json.write_text('{"groups": {"background": ["desert", "snow"]}, "core": {"fish": ["background:snow"]}}')
    assert concepts_of(str(json), pipeline).core == {"fish": ("background:snow",)}
    json.write_text('{"background": ["desert", "snow"]}')
    assert Concepts.read(json).names == ("background:desert", "background:snow")
    text.write_text("background: desert, snow\nbackground: sea, grass\n")
    with pytest.raises(ValueError, match="each group in one line, got background twice"):
        Concepts.read(text)
    text.write_text("# nothing\n")
    with pytest.raises(ValueError, match="at least one group"):
        Concepts.read(text)
    with pytest.raises(FileNotFoundError):
        Concepts.read(tmp_path / "none.txt")


def test_json_loses_no_group_and_names_a_misspelt_part(tmp_path: Path) -> None:
    json, rest = tmp_path / "concepts.json", '"words": ["striped"], "groups": {"background": ["desert", "snow"]}'
    for content, error, message in (
        ('{"background": ["desert", "snow"], "background": ["sea", "night"]}', CorruptFileError, "'background' twice"),
        (f'{{{rest}, "cor": {{"fish": ["word:striped"]}}}}', UnknownNameError, "5 .*, nearest: core, .*, got 'cor'"),
        (
            '{"words": ["striped"], "grops": {"background": ["sea", "snow"]}}',
            UnknownNameError,
            "nearest: groups.*grops",
        ),
        ('{"grops": {"background": ["sea", "snow"]}}', TypeError, "concepts, grops: wanted a list of words, got dict"),
        ('{"groups": null, "core": {}}', TypeError, "concepts: wanted a dict from group names"),
    ):
        json.write_text(content)
        with pytest.raises(error, match=message):
            Concepts.read(json)
    json.write_text('{"words": ["a", "b"], "background": ["sea", "snow"]}')  # a group may be called so
    assert Concepts.read(json).names == ("words:a", "words:b", "background:sea", "background:snow")


@pytest.mark.parametrize("captions", [None, 3, "a red boat", b"a red boat", [1, 2], ["a red boat", None]])
def test_captions_that_are_no_texts_are_named(captions: Any) -> None:
    with pytest.raises(TypeError, match=r"^captions: wanted texts, got (NoneType|int|str|bytes)"):
        Concepts.from_captions(captions)


def test_most_words_are_at_least_one() -> None:
    captions = ["a red boat", "a red boat"]
    assert Concepts.from_captions(captions, 1).words == ("red",)
    for most in (0, -1):
        with pytest.raises(ValueError, match=f"^most: wanted at least 1, got {most}"):
            Concepts.from_captions(captions, most)
    with pytest.raises(TypeError, match=r"^most: wanted a whole number, got float"):
        Concepts.from_captions(captions, 1.0)


def test_captions_give_their_common_words() -> None:
    found = Concepts.from_captions(["A red boat on the sea", "a blue boat in the snow", "snow, and a fish", "boat"])
    assert found.words == ("boat", "snow")
    with pytest.raises(ValueError, match="captions that share words"):
        Concepts.from_captions(["one", "two"])


@pytest.mark.parametrize("part", ["core", "similar", "synonyms"])
@pytest.mark.parametrize(("given", "got"), [(None, "NoneType"), (["fish"], "list"), ({0: ["background:snow"]}, "int")])
def test_what_is_declared_is_a_dict_with_text_as_keys(part: str, given: Any, got: str) -> None:
    with pytest.raises(TypeError, match=f"concepts, {part}: wanted a dict .*, got {got}"):
        Concepts(GROUPS, **{part: given})


def test_a_value_that_is_no_text_is_named() -> None:
    with pytest.raises(TypeError, match="concepts, background: wanted text, got list"):
        Concepts({"background": [["desert"], "snow"]})


def test_concepts_declared_for_a_class_that_does_not_exist_are_named(tmp_path: Path) -> None:
    wanted = r"concepts, core: wanted one of 4 known names, nearest: boat.*, got 'bota'"
    with pytest.warns(UserWarning, match=wanted):  # they may be those of another classifier
        quick_audit(tmp_path, concepts=Concepts(GROUPS, core={"bota": ["background:snow"]}))
    with quick_explainer() as explainer:
        with pytest.raises(UnknownNameError, match=wanted):
            explainer.candidates(["snow", "red"], core={"bota": ["word:snow"]})
        with pytest.raises(TypeError, match="concepts, core: wanted a dict"):
            explainer.candidates(["snow", "red"], core={0: ["word:snow"]})
