"""The suite of planted classifiers: its list, its scenes, its scores on tables with known answers, and resuming."""

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.truth.__main__ import command_of, run
from benchmarks.truth.answers import Answer
from benchmarks.truth.cases import Case, drawn_line, is_right
from benchmarks.truth.cells import CELLS_OF_A_KIND, CI, CLEAN_OF_A_MODEL, KINDS, Cell, Planned, ci_list, whole_list
from benchmarks.truth.described import HIGH, Description, Pair, predictiveness, scenes_of, true_scores
from benchmarks.truth.hypotheses import by_examples, judged
from benchmarks.truth.methods import METHODS, against_medians
from benchmarks.truth.rows import TRUTH, append_rows, learnt, missing, read_rows, world
from benchmarks.truth.scoring import TRUE, false_alarms, figures, of_method, over_cells, pairs, shifted, with_bounds
from benchmarks.truth.table import table
from diffexplain_fast.recipe.architectures import MODELS
from diffexplain_fast.recipe.shortcuts import Cue, checked_shortcuts
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.tinyworld.words import OBJECTS

CONCEPTS = ["object:fish", "object:tree", "background:sea", "background:snow", "colour:red", "colour:blue"]
SNOW = Cell("fish", "single 0.9", Cue((("background", "snow"),)))
BOTH = Cell("fish", "all_of", Cue((("colour", "red"), ("background", "snow"))))
EITHER = Cell("fish", "any_of", Cue((("colour", "red"), ("background", "snow")), every=False))


def case(
    answer: Answer, cell: Cell | None = SNOW, effects: list[float] | None = None, kind: str = "planted", **more: Any
) -> Case:
    """Return what a method said of "fish", beside a truth in which only snow has an effect."""
    known: dict[str, Any] = {
        "concepts": CONCEPTS,
        "effects": {"fish": effects or [0.5, 0, 0, 5.0, 0, 0]},
        "roles": {"fish": ["none", "none", "none", "spurious", "none", "none"]},
        "spreads": {"fish": [0.1] * len(CONCEPTS)},
        "planted": {"fish": True},
        "values": {},
    }
    known |= more.pop("known", {})
    return Case(Planned("one", kind, () if cell is None else (cell,), **more), "fish", answer, known, 0.0)


def scored(*scores: float, named: list[str] | None = None, **more: Any) -> Answer:
    """Return an answer about ``CONCEPTS``."""
    return Answer(list(scores), named, **more)


def test_the_list_has_forty_cells_of_every_kind_and_five_clean_classifiers_of_every_architecture() -> None:
    planned = whole_list()
    cells = Counter(cell.kind for one in planned if one.kind == "planted" for cell in one.cells)
    assert set(cells) == set(KINDS) and min(cells.values()) >= CELLS_OF_A_KIND == 40
    assert len({one.name for one in planned}) == len(planned)
    for model in MODELS:
        kinds = Counter(one.kind for one in planned if one.model == model)
        assert kinds["clean"] == CLEAN_OF_A_MODEL == 5 and kinds["re-initialised"] == kinds["rescaled"] == 2
    assert whole_list() == planned


def test_every_classifier_of_the_list_can_be_made() -> None:
    for one in whole_list():
        cues = checked_shortcuts({cell.label: cell.cue for cell in one.cells})
        assert len(cues) == len(one.cells) <= len(OBJECTS) - 3  # three classes take what the others gain
        assert set(one.labels) <= set(OBJECTS) and len(one.labels) >= 2
        twin = next((other for other in whole_list() if other.name == one.twin), None)
        assert one.kind != "shifted" or (twin is not None and twin.cells == one.cells and twin.seed == one.seed)


def test_single_values_of_every_attribute_are_planted_at_both_strengths() -> None:
    for strength in (0.5, 0.9):
        values = Counter(
            cell.cue.values[0]
            for one in whole_list()
            for cell in one.cells
            if one.kind == "planted" and cell.kind == f"single {strength}" and one.strength == strength
        )
        names = {"colour", "texture", "background", "companion", "size", "place"}
        assert (
            set(values.values()) == {2} and {name for name, _ in values} == names and ("companion", "nothing") in values
        )


def test_the_subset_has_the_shipped_classifiers_and_two_made_ones() -> None:
    assert [one.name for one in ci_list() if one.kind != "shipped"] == list(CI)
    assert len({cell.kind for one in ci_list() for cell in one.cells}) == 5


def test_predictiveness_is_the_share_on_the_predicted_side() -> None:
    values = [4.0, 3.0, 2.0, 1.0]
    assert predictiveness([9, 8, 1, 0], values) == 1 and predictiveness([0, 1, 8, 9], values) == 0
    assert predictiveness([0, 0, 0, 0], values) == 0.5
    assert predictiveness([1, 0, 1, 0], values) == 0.5
    # One is certain to be predicted high; one of three others is, each with a chance of a third.
    assert predictiveness([1, 0, 0, 0], values) == pytest.approx((1 + 1 / 3 + 2 / 3 + 2 / 3) / 4)


@pytest.mark.parametrize("cell", [SNOW, BOTH, EITHER, Cell("fish", "mark", Cue((("mark", "watermark"),)))])
def test_half_of_the_scenes_show_the_cue_and_the_own_object_is_in_half_of_both(cell: Cell) -> None:
    scenes = scenes_of("fish", cell)
    assert [cell.cue.holds(scene) for scene in scenes] == [True] * HIGH + [False] * HIGH
    for part in (scenes[:HIGH], scenes[HIGH:]):
        assert sum(scene["object"] == "fish" for scene in part) == HIGH / 2
    shown = [sum(scene[name] == value for name, value in cell.cue.values) for scene in scenes[HIGH:]]
    assert Counter(shown) == ({0: 20, 1: 20} if cell.kind == "all_of" else {0: 40})
    assert scenes_of("fish", cell) == scenes


def test_scenes_of_a_class_without_a_cue_are_told_apart_by_its_object() -> None:
    assert [scene["object"] == "fish" for scene in scenes_of("fish", None)] == [True] * HIGH + [False] * HIGH


def test_the_true_description_says_what_the_classifier_was_trained_to_say() -> None:
    strong, weak = (
        true_scores(Planned("one", "planted", (SNOW,), strength=strength), "fish") for strength in (0.9, 0.5)
    )
    assert min(strong[:HIGH]) == pytest.approx(5.4) and max(strong[HIGH:]) == pytest.approx(0.6)
    assert sorted(set(np.round(weak, 6))) == [0, 3, 6]


def test_a_description_adds_up_what_a_scene_shows() -> None:
    said = Description({"background:snow": 2.0, "colour:red": 1.0}, [Pair("background:snow", "colour:red", "and", 4.0)])
    scene = {"object": "fish", "background": "snow", "colour": "red", "style": "scene"}
    assert said.score(scene) == 7 and said.score(scene | {"colour": "blue"}) == 2
    assert said.score(scene | {"object": "nothing"}) == 2  # an empty place has no colour


def test_figures_over_cells_are_those_of_a_table_with_known_answers() -> None:
    low, high = [0, -1, -1, 4, -1, -1], [1, 1, 1, 4.5, 1, 1]
    good = scored(0, 0, 0, 4.2, 1, 0, named=["background:snow", "colour:red"], low=low, high=high)
    found = over_cells([case(good, effects=[9, 0, 0, 5, -2, 0])])
    assert found is not None and found["cells"] == 5  # the own object is left out
    assert found["AUC, spurious by truth's role"]["all"] == 1
    assert found["precision, |truth| above the minimal effect"] == {
        "share": 0.5,  # red lowers the class, and was said to raise it
        "of": 2,
        "at least": wilson_interval(1, 2)[0],
    }
    raised = found["recall, |truth| at least 0.4 above the minimal effect"]["raised"]
    assert (raised["share"], raised["of"]) == (1, 1)
    assert found["covered"]["share"] == pytest.approx(0.6) and found["covered, findings"]["share"] == 0
    assert found["median half-width"] == 1


def test_a_method_without_intervals_has_no_coverage() -> None:
    found = over_cells([case(scored(0, 0, 0, 1, 0, 0, named=[]))])
    assert found is not None and not any(key.startswith("covered") for key in found)


def test_shares_have_lower_bounds_wherever_they_lie() -> None:
    found = with_bounds({"a": {"share": 0.9, "of": 10}, "b": {"c": {"share": None, "of": 0}}, "d": 1})
    assert found == {
        "a": {"share": 0.9, "of": 10, "at least": wilson_interval(9, 10)[0]},
        "b": {"c": {"share": None, "of": 0}},
        "d": 1,
    }


def test_false_alarms_are_named_cells_without_an_effect_on_classifiers_without_cues() -> None:
    named = ["object:fish", "background:snow", "colour:red"]
    clean = case(scored(1, 0, 0, 1, 1, 0, named=named), None, [0.1, 0, 0, 0.6, 0, 0], kind="clean")
    found = false_alarms([clean, case(scored(0, 0, 0, 0, 0, 0, named=["colour:blue"]))])
    assert found == {"share": 0.25, "of": 4, "at most": wilson_interval(1, 4)[1]}  # red; snow has an effect


def test_pairs_count_what_was_found_and_what_was_said_of_it() -> None:
    named = ["colour:red", "background:snow"]
    pair = Pair("background:snow", "colour:red", "and", 4.0)
    cases = [
        case(scored(0, 0, 0, 1, 1, 0, named=named), BOTH),
        case(scored(0, 0, 0, 1, 0, 0, named=named[:1], pairs=[pair]), BOTH),
        case(scored(0, 0, 0, 1, 0, 0, named=named[:1], pairs=[pair]), EITHER),
        case(scored(0, 0, 0, 1, 0, 0, named=[]), BOTH, known={"planted": {"fish": False}}),
    ]
    found = pairs(cases)
    assert (found["all_of"]["both found"]["share"], found["all_of"]["both found"]["of"]) == (1, 2)
    assert found["all_of"]["kind"]["share"] == 0.5
    assert found["any_of"]["both found"]["share"] == 1 and found["any_of"]["kind"]["share"] == 0


def test_verdicts_and_first_words_are_counted_by_kind() -> None:
    mark = Cell("fish", "mark", Cue((("mark", "watermark"),)))
    cases = [
        case(scored(9, 0, 0, 5, 0, 0, named=["background:snow"])),
        case(scored(9, 0, 0, 5, 6, 0, named=["object:fish"])),
        case(scored(0, 0, 0, 0, 0, 0, named=[], verdict="not elicited"), mark),
        case(scored(1, 0, 0, 0, 0, 0, named=["object:fish"]), None, [3.0, 0, 0, 0.4, 0, 0], kind="clean"),
        case(scored(0, 0, 0, 0, 0, 0, named=["colour:red"]), None, kind="re-initialised"),
    ]
    for one in cases[3:]:
        assert one.label not in one.planned.labels  # "fish" is none of the two that seed 0 looks at
    cases[3:] = [one._replace(planned=one.planned._replace(name="two", seed=1)) for one in cases[3:]]
    found = of_method(cases)
    verdicts, first = found["verdicts"], found["first word"]
    assert {kind: share["share"] for kind, share in verdicts.items()} == {
        "all": 0.6,
        "single 0.9": 0.5,
        "mark": 1,
        "clean": 1,
        "re-initialised": 0,
    }
    assert {kind: share["share"] for kind, share in first.items()} == {"all": 2 / 3, "single 0.9": 0.5, "clean": 1}


def test_a_method_that_draws_no_line_gets_the_best_one_on_the_shipped_classifiers() -> None:
    answer = scored(9, 0.1, 0.2, 0.9, 0.3, 0.4)
    shipped = case(answer, SNOW, kind="shipped")
    assert drawn_line([shipped, case(scored(9, 9, 9, 0, 9, 9))]) == 0.4
    assert shipped._replace(line=0.4).named == ["object:fish", "background:snow"]


def test_a_shift_of_all_logits_is_compared_with_its_twin() -> None:
    twin = case(scored(0, 0, 0, 4, 0, 0, named=["background:snow"]))
    one = case(scored(0, 0, 0, 4, 0.25, 0, named=["background:snow"]), kind="shifted", twin="one")
    one = one._replace(planned=one.planned._replace(name="two"))
    found = shifted([twin, one])
    assert (
        found is not None and found["largest change of a score"] == 0.25 and found["same concepts named"]["share"] == 1
    )
    assert shifted([twin]) is None


def test_a_cue_is_learnt_where_the_measured_truth_says_so() -> None:
    truth: dict[str, Any] = {
        "attributes": [{"attribute": "colour:red", "effect": 1.5}, {"attribute": "background:snow", "effect": 3}],
        "unnamed": [{"cue": "mark:watermark", "effect": 0.5}],
        "interactions": [{"effect": -1.2}],
    }
    assert learnt(truth, SNOW) and learnt(truth, EITHER) and not learnt(truth, BOTH)
    assert not learnt(truth, Cell("fish", "mark", Cue((("mark", "watermark"),))))
    truth["attributes"][0]["effect"] = 0.2
    assert not learnt(truth, EITHER) and learnt(truth | {"interactions": [{"effect": 5}]}, BOTH)


def test_a_class_that_was_to_be_clean_is_judged_as_clean_only_where_the_measured_truth_says_so() -> None:
    clean, leaks = [3.0, 0, 0, 0.4, 0, -0.5], [3.0, 0, 0, 0.4, 0, -0.6]
    said = {verdict: scored(3, 0, 0, 0, 0, 0, verdict=verdict) for verdict in ("core", "both")}
    assert [is_right(case(said[verdict], None, clean, "clean")) for verdict in ("core", "both")] == [True, False]
    assert is_right(case(said["both"], None, leaks, "clean")) is None
    assert is_right(case(said["core"], SNOW, leaks)) is False and is_right(case(said["both"], SNOW, leaks)) is True


def test_scores_are_against_the_median_of_their_group() -> None:
    names = ("a:1", "a:2", "a:3", "b:1")
    assert against_medians(np.array([1.0, 2.0, 5.0, 7.0]), names) == [-1, 0, 3, 0]


def test_hypotheses_come_from_the_examples_and_pairs_from_what_both_do() -> None:
    named = np.zeros((40, 3), dtype=bool)
    named[:12, 1], named[::2, 0] = True, True
    assert by_examples(named, -np.arange(40.0)) == [1, 0, 2]
    alone = {"a:1": 0.5, "b:1": 2.0, "c:1": 3.0}
    assert judged("a:1", "b:1", alone, 6.0) == [Pair("a:1", "b:1", "and", 3.5)]
    assert judged("b:1", "c:1", alone, 3.0) == [Pair("b:1", "c:1", "or", -2.0)]
    assert judged("a:1", "b:1", alone, 1.0) == []


def test_an_answer_is_the_same_after_it_was_written() -> None:
    answer = scored(1, 2, named=["a"], pairs=[Pair("a", "b", "and", 1.0)], low=[0, 1], high=[2, 3], undecided=["b"])
    assert Answer.read(json.loads(json.dumps(answer.record()))) == answer


def test_rows_that_are_there_are_not_computed_again(tmp_path: Path) -> None:
    planned, path = ci_list()[:1], tmp_path / "rows.jsonl"
    rows = [{"world": world(), "classifier": planned[0].name, "method": name} for name in (TRUTH, "class name")]
    assert missing(planned[0], ["class name", "cue test"], rows[1:]) == [TRUTH, "cue test"]
    append_rows(path, [*rows, rows[0] | {"world": "another", "method": "cue test"}])
    before = path.read_bytes()
    assert read_rows(path) == rows
    assert run(planned, ["class name"], tmp_path, 1) == [] and path.read_bytes() == before


def test_the_command_of_a_row_names_what_it_left_out() -> None:
    given = Namespace(subset="all", only=["pairs-00", "pairs-01"], methods=["audit"], jobs=1)
    assert command_of(given).endswith("benchmarks.truth --subset all --only pairs-00 pairs-01 --methods audit --jobs 1")


@pytest.mark.slow
def test_the_suite_runs_from_the_list_to_the_table_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (planned,) = [one for one in ci_list() if one.name == "clean"]
    path, methods = tmp_path / "rows.jsonl", ["class name", "audit", "cue test", "hypotheses"]
    assert set(methods) <= set(METHODS)  # the others explain classes first, which takes minutes
    assert run([planned], methods[:1], tmp_path, 1) == []
    before = path.read_text()
    assert run([planned], methods, tmp_path, 1) == []
    assert path.read_text().startswith(before)
    rows = read_rows(path)
    assert [row["method"] for row in rows] == [TRUTH, *methods]
    found = figures([planned], rows)
    assert found["class name"]["first word"]["clean"]["share"] == 1
    assert found["audit"]["cells"]["cells"] > 40 and found["audit"]["cells of all classes"]["cells"] > 160
    assert found["audit"]["false alarms"]["share"] <= 0.05
    # Another processor trains another network, whose classes may all have a true effect beside their object.
    assert found["audit"]["verdicts"].get("clean", {"share": 1})["share"] == 1
    assert found["audit"]["predictiveness"]["all"]["mean"] > 0.9 and found[TRUE]["predictiveness"]["all"]["mean"] > 0.9
    assert all(name in table(found) for name in methods)
