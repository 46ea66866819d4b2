"""Taxonomies: trees of any depth, the two published forms, and what is wrong with a tree said by its place."""

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.errors import CorruptFileError, UnknownNameError

RELEASED = {
    "domain": "faces",
    "categories": {"accessories": {"hat": ["fedora", "beret"], "glasses": ["round"]}, "hair": ["blonde", "red"]},
}
PAPER = [{"BEARD": ["goatee", "full"]}, {"EYES": ["blue", "green"]}]


def test_the_released_form_is_read_and_written() -> None:
    taxonomy = dx.Taxonomy.from_json(RELEASED)
    assert taxonomy.to_json() == RELEASED and dx.Taxonomy.from_json(taxonomy.to_json()) == taxonomy
    assert [concept.name for concept in taxonomy.concepts][:3] == [
        "accessories:fedora",
        "accessories:beret",
        "accessories:round",
    ]
    assert taxonomy.concept("accessories:beret").path == ("accessories", "hat", "beret")
    assert [concept.word for concept in taxonomy.siblings("hair")] == ["blonde", "red"]


def test_the_papers_form_is_read_and_written_and_sets_are_lists() -> None:
    taxonomy = dx.Taxonomy.from_json(PAPER)
    assert taxonomy.to_json("paper") == PAPER
    assert dx.Taxonomy([{"BEARD": {"goatee", "full"}}]) == dx.Taxonomy({"BEARD": ["full", "goatee"]})


def test_any_depth_goes_through_a_file(tmp_path) -> None:
    deep = {"object": {"being": {"animal": {"pet": ["dog", "cat"], "fish": None}}}, "sky": ["blue"]}
    taxonomy = dx.Taxonomy(deep, domain="world")
    for form in ("released", "paper"):
        read = dx.Taxonomy.load(taxonomy.save(tmp_path / f"{form}.json", form))
        assert read.concepts == taxonomy.concepts
    assert taxonomy.inner == [
        ("object",),
        ("object", "being"),
        ("object", "being", "animal"),
        ("object", "being", "animal", "pet"),
        ("sky",),
    ]
    assert [concept.word for concept in taxonomy.below(("object", "being"))] == ["dog", "cat", "fish"]


def test_names_that_are_not_unique_are_whole_paths_and_leaves_need_no_category() -> None:
    taxonomy = dx.Taxonomy({"hair": {"long": ["red"], "short": ["red", "black"]}})
    assert [concept.name for concept in taxonomy.concepts] == ["hair:long:red", "hair:short:red", "hair:black"]
    flat = dx.Taxonomy(["snow", "sand"])
    assert [concept.name for concept in flat.concepts] == ["snow", "sand"] and flat.siblings("") == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"b": {"a": ["c"]}}}, "taxonomy, a > b: .*cycle a > b > a"),
        ({"a": ["b", "B "]}, "taxonomy, a: wanted every name once, got 'B' twice"),
        ([{"a": ["b"]}, {"a": ["c"]}], "taxonomy: wanted every name once, got 'a' twice"),
        ({"a": {"b": []}}, "taxonomy, a > b: wanted at least one name below it, got none"),
        ({"a": [" "]}, "taxonomy, a: wanted names that are not empty"),
        ({}, "taxonomy: wanted at least one name below it"),
        ({"a": 3}, "taxonomy, a: wanted a dict, a list of names"),
        ({"a": [3]}, "taxonomy, a: wanted names, or dicts"),
        ({3: ["a"]}, "taxonomy: wanted text as names"),
        ({"a": {1, "b"}}, "taxonomy, a: wanted names, or dicts .*, got int"),
        ({"a": {"b", None}}, "taxonomy, a: wanted names, or dicts .*, got NoneType"),
        ("", "names that are not empty"),
        (None, "taxonomy: wanted a dict"),
    ],
)
def test_what_is_wrong_with_a_tree_is_said_with_its_place(tree: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        dx.Taxonomy(tree)


def test_a_tree_that_contains_itself_ends() -> None:
    tree: dict = {}
    tree["a"] = tree
    with pytest.raises(ValueError, match="cycle a > a"):
        dx.Taxonomy(tree)
    loop: list = ["x"]
    loop.append({"b": {"c": loop}})
    with pytest.raises(ValueError, match="cycle"):
        dx.Taxonomy({"a": loop})


def test_files_that_are_damaged_or_say_a_key_twice(tmp_path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"categories": {"a": ["b"], "a": ["c"]}}')
    with pytest.raises(CorruptFileError, match="'a' twice"):
        dx.Taxonomy.load(path)
    path.write_text("{")
    with pytest.raises(CorruptFileError, match="JSON of a taxonomy"):
        dx.Taxonomy.load(path)
    path.write_text(json.dumps({"domain": 3, "categories": ["a"]}))
    with pytest.raises(TypeError, match="domain: wanted text"):
        dx.Taxonomy.load(path)


def test_nothing_beside_categories_is_dropped() -> None:
    for value, nearest in (
        ({"categories": ["x", "y"], "b": ["z"]}, "'b'"),
        ({"categories": ["x", "y"], "domian": "faces"}, "nearest: domain, .*'domian'"),
        ({"domain": "faces", "categoris": {"x": ["y"]}}, "nearest: categories, .*'categoris'"),
    ):
        with pytest.raises(UnknownNameError, match=f"^taxonomy: wanted one of 2 known names, .*{nearest}"):
            dx.Taxonomy.from_json(value)
    named = dx.Taxonomy.from_json({"domain": ["land", "sea"], "size": ["small"]})  # a category may be called so
    assert [concept.name for concept in named.concepts] == ["domain:land", "domain:sea", "size:small"]


def test_unknown_names_and_cut_words() -> None:
    taxonomy = dx.Taxonomy.from_json(RELEASED)
    with pytest.raises(UnknownNameError, match="accessories:fedora"):
        taxonomy.concept("accessories:fedor")
    with pytest.raises(UnknownNameError, match="form"):
        taxonomy.to_json("xml")
    pieces = {"fedora": 3, "round": 1, "red": 1}
    assert taxonomy.cut_words(lambda text: pieces.get(text, 1)) == ["fedora"]


def test_a_model_proposes_and_is_asked_again_until_it_answers_with_json() -> None:
    answers = iter(["I see faces.", '{"categories": {"hat": []}}', f"Sure:\n```json\n{json.dumps(RELEASED)}\n```"])
    asked = []

    def model(images: object, question: str) -> str:
        asked.append((images, question))
        return next(answers)

    assert dx.Taxonomy.propose(["picture"], model) == dx.Taxonomy.from_json(RELEASED)
    assert len(asked) == 3 and asked[0][0] == ["picture"] and "JSON" in asked[0][1]
    assert "could not be read: taxonomy, hat: wanted at least one name below it" in asked[2][1]


@pytest.mark.parametrize(
    "around", ["Here {as you asked}: %s", "{ is a brace. %s", "%s Names are in {braces}.", 'A leaf: {"a": 1}. %s {}']
)
def test_a_taxonomy_may_stand_in_prose_with_braces(around: str) -> None:
    found = dx.Taxonomy.propose(["picture"], lambda images, question: around % json.dumps(RELEASED))
    assert found == dx.Taxonomy.from_json(RELEASED)


@pytest.mark.parametrize("around", ["%s", "```json\n%s\n```", "A list [of two]: %s {as you asked}"])
def test_an_answer_may_be_the_papers_list(around: str) -> None:
    answer = around % '[{"hat": ["cap", "fedora"]}, {"glasses": ["round"]}]'
    found = dx.Taxonomy.propose(["picture"], lambda images, question: answer)
    assert found == dx.Taxonomy({"hat": ["cap", "fedora"], "glasses": ["round"]})


@pytest.mark.parametrize(
    "answer",
    ['{"hat": ["cap"]} {"glasses": ["round"]}', '[{"hat": ["cap"]}] {"b": ["c"]}', '{"b": ["c"]} [{"hat": ["cap"]}]'],
)
def test_an_answer_with_two_taxonomies_is_none(answer: str) -> None:
    with pytest.raises(ValueError, match=r"model: wanted an answer with the JSON.*2 JSON objects in place of one"):
        dx.Taxonomy.propose(["picture"], lambda images, question: answer)


def test_an_answer_that_breaks_off_is_no_taxonomy_of_its_parts() -> None:
    with pytest.raises(ValueError, match="model: wanted an answer with the JSON of a taxonomy"):
        dx.Taxonomy.propose(["picture"], lambda images, question: '{"hat": {"fedora": null, "cap": null}, "gl')


def test_an_answer_with_a_key_twice_is_no_taxonomy() -> None:
    with pytest.raises(ValueError, match="the key 'a' twice"):
        dx.Taxonomy.propose(["p"], lambda images, question: '{"categories": {"a": ["b"], "a": ["c"]}}')


def test_a_model_that_never_answers_with_a_taxonomy_is_named() -> None:
    with pytest.raises(ValueError, match=r"model: wanted an answer with the JSON of a taxonomy, got 'no' \("):
        dx.Taxonomy.propose(["picture"], lambda images, question: "no")
    with pytest.raises(TypeError, match="model: wanted a function of pictures"):
        dx.Taxonomy.propose(["picture"], "gpt")
    with pytest.raises(TypeError, match="model: wanted a function that returns text"):
        dx.Taxonomy.propose(["picture"], lambda images, question: None)
    with pytest.raises(ValueError, match="images: wanted at least one"):
        dx.Taxonomy.propose([], lambda images, question: "")


def audit_of(*rows: tuple[str, str, bool]) -> SimpleNamespace:
    """Return what is read of an audit: target, concept, and whether it is a finding."""
    found = [SimpleNamespace(target=target, concept=concept, finding=finding) for target, concept, finding in rows]
    return SimpleNamespace(rows=found, findings=[row for row in found if row.finding])


def test_findings_of_an_audit_become_categories_with_all_their_values() -> None:
    audit = audit_of(
        ("fish", "background:sea", False),
        ("fish", "background:desert", True),
        ("fish", "companion:kite", False),
        ("fish", "word:striped", True),
        ("fish", "word:red", False),
        ("bird", "companion:flag", True),
        ("bird", "companion:kite", False),
    )
    fish = dx.Taxonomy.from_audit(audit, "fish")
    assert [concept.name for concept in fish.concepts] == ["background:desert", "background:sea", "striped"]
    assert fish.domain == "fish"
    both = dx.Taxonomy.from_audit(audit)
    names = [concept.name for concept in both.concepts]
    assert names == ["background:desert", "background:sea", "striped", "companion:flag", "companion:kite"]
    with pytest.raises(UnknownNameError, match=r"target: .*fish"):
        dx.Taxonomy.from_audit(audit, "fsh")
    with pytest.raises(ValueError, match="audit: wanted an audit with findings of 'fish', got none"):
        dx.Taxonomy.from_audit(audit_of(("fish", "background:sea", False)), "fish")


def test_names_of_an_audit_that_are_alike_are_told_apart_or_count_once() -> None:
    names = ("word:hat", "hat:bowler", "hat:beanie", "word:Red", "word:red", "word:cap", "Hat:Bowler")
    audit = audit_of(*(("fish", name, name not in ("hat:beanie", "word:cap")) for name in names))
    taxonomy = dx.Taxonomy.from_audit(audit, "fish")
    assert [concept.name for concept in taxonomy.concepts] == ["word:hat", "hat:bowler", "hat:beanie", "Red"]
    other = dx.Taxonomy.from_audit(audit_of(("fish", "hat:bowler", True), ("fish", "word:Hat", True)), "fish")
    assert [concept.name for concept in other.concepts] == ["hat:bowler", "word:Hat"]
    free = dx.Taxonomy.from_audit(audit_of(("fish", "word:word", True), ("fish", "hat:bowler", False)))
    assert [concept.name for concept in free.concepts] == ["word"]
    every = [("fish", name, True) for name in ("word:Word", "word:hat", "hat:bowler")]
    both = dx.Taxonomy.from_audit(audit_of(*every, ("fish", "word:sea", False)))
    assert [concept.name for concept in both.concepts] == ["word:Word", "word:hat", "hat:bowler"]
    same = dx.Taxonomy.from_audit(audit_of(("fish", "hat:hat", True), ("fish", "hat:nothing", False)))
    assert [concept.name for concept in same.concepts] == ["hat:hat", "hat:nothing"]
    assert same == dx.Taxonomy({"hat": ["hat", "nothing"]}, domain="fish")


@pytest.mark.parametrize("name", [5, None, b"a:b", ("a", "b")])
def test_names_of_another_kind_are_unknown_and_said(name: Any) -> None:
    tree = dx.Taxonomy({"a": ["b", "c"]})
    for ask in (tree.concept, tree.to_json):
        with pytest.raises(UnknownNameError, match=f"wanted one of 2 known names, .*, got {re.escape(repr(name))}$"):
            ask(name)


def test_pictures_and_audits_of_another_kind_are_refused() -> None:
    for images in (Image.new("RGB", (2, 2)), None, "ab", 3, np.array(3)):
        with pytest.raises(TypeError, match="images: wanted a list of pictures, got"):
            dx.Taxonomy.propose(images, lambda pictures, question: "")
    for audit in (None, "fish"):
        with pytest.raises(TypeError, match="audit: wanted an Audit, got"):
            dx.Taxonomy.from_audit(audit)
