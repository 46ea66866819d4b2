"""The benchmark of names: its cells are fresh, it judges words as it says, and its table adds up."""

from typing import Any

import pytest

from benchmarks.search import cells
from benchmarks.search.name_cells import (
    CLEAN,
    HALVES,
    NAMELESS,
    PAIR,
    PLANTED,
    SINGLE,
    NameCell,
    captions,
    false_words,
    name_cells,
    unsaid,
)
from benchmarks.search.names import table
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.recipe.shortcuts import CUE_NAMES, checked_shortcuts

TREE = NameCell("names-0", "tree", SINGLE, (("background", "night"),))
BOTH = NameCell("names-0", "tree", PAIR, (("colour", "red"), ("companion", "sun")))
TRUTH: dict[str, Any] = {
    "attributes": [
        {"attribute": "background:night", "effect": 5.0},
        {"attribute": "background:snow", "effect": 1.5},
        {"attribute": "object:tree", "effect": 0.4},
    ],
    "interactions": [],
    "unnamed": [],
}


def test_no_cell_was_searched_before_and_every_kind_is_in_every_half() -> None:
    known = {**SHIPPED, **cells.MADE, "demo": {"house": {"pattern": "diagonal"}}}
    before = {(label, cue.values) for made in known.values() for label, cue in checked_shortcuts(made).items()}
    fresh = [(cell.label, cell.values) for cell in name_cells()]
    planted = [pair for pair in fresh if pair[1][0][0] != "object"]
    assert not before & set(planted) and len(fresh) >= 7 * len(PLANTED)
    assert len(set(planted)) == len(planted)
    for half in set(HALVES.values()):
        of_half = [cell for cell in name_cells() if cell.half == half]
        assert {cell.kind for cell in of_half} == {SINGLE, PAIR, NAMELESS, CLEAN}
        assert {name for cell in of_half for name, _ in cell.values} == {*CUE_NAMES, "object"} - {"mark"}


def test_captions_say_the_cue() -> None:
    assert captions(BOTH) == ["red sun", "a red thing with sun", "a red tree with sun"]
    assert captions(NameCell("names-0", "bird", NAMELESS, (("frame", "dark"),)))[0] == "blicket"


@pytest.mark.parametrize(
    ("cell", "words", "missed"),
    [(TREE, ["sky"], []), (TREE, ["land"], ["night"]), (BOTH, ["sun", "house"], ["red"]), (BOTH, [], ["red", "sun"])],
    ids=["a synonym", "a group", "one of two", "nothing"],
)
def test_a_value_is_said_by_words_that_mean_nothing_else(cell: NameCell, words: list[str], missed: list[str]) -> None:
    interactions = [{"first": "colour:red", "second": "companion:sun", "effect": 5.0}]
    assert unsaid(cell, words, TRUTH | {"interactions": interactions}) == missed


def test_a_value_that_the_classifier_has_not_learnt_is_not_asked_for() -> None:
    both = [*TRUTH["attributes"], {"attribute": "companion:sun", "effect": 3.0}]
    weak = [{"first": "colour:red", "second": "companion:sun", "effect": 0.2}]
    assert unsaid(BOTH, ["house"], TRUTH | {"attributes": both, "interactions": weak}) == ["sun"]


def test_a_word_is_false_unless_the_cue_or_the_measured_effect_says_it() -> None:
    words = ["night", "snow", "tree", "picture", "with", "land", "day"]
    # "land" means grass, desert or snow: 0.5 in the mean; "day" the sea as well: 0.375.
    assert false_words(TREE, words, TRUTH) == ["tree", "picture", "with", "day"]
    assert false_words(BOTH, ["red", "sun"], TRUTH) == []


def test_a_nameless_cue_has_no_true_word() -> None:
    assert false_words(NameCell("names-0", "tree", NAMELESS, (("pattern", "checked"),)), ["night"], TRUTH) == ["night"]


def test_the_table_counts_names_of_what_was_found() -> None:
    costs = {"search rows": 100, "search CPU seconds": 2.0, "naming rows": 10, "naming CPU seconds": 1.0}
    row = {"half": "first", "kind": SINGLE, "success": True, "unsaid": [], "false": [], "right": True, **costs}
    wrong = {**row, "unsaid": ["snow"], "false": ["tree"], "right": False}
    nameless = {**row, "kind": NAMELESS, "unsaid": ["dark"]}
    lines = [line.split() for line in table([row, wrong, nameless, {**row, "success": False}]).splitlines()[1:]]
    assert lines[0][:8] == ["first", "single", "3", "2", "1", "1", "1", "0.09"]
    assert lines[1][:8] == ["first", "nameless", "1", "1", "-", "1", "1", "0.21"]
    assert lines[2][:8] == ["first", "all", "4", "3", "1", "2", "2", "0.21"]
