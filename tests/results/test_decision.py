"""Conditions on audits: what they read, and what they refuse."""

import math
from dataclasses import replace

import pytest

from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.results.decision import decide
from diffexplain_fast.results.photographs import Agreement, Explained, Photographs, Slice
from tests.auditing import made_up

ROWS = rows_of(made_up({("fish", "background:desert"): 5.0}))
CLEAN = rows_of(made_up({}))
DESERT = next(row for row in ROWS if (row.target, row.concept) == ("fish", "background:desert"))
PHOTOGRAPHS = Photographs(
    40,
    [],
    Agreement(0, None, None, None),
    [Explained("fish", 10, 0.6, 0.9, 0.01, False), Explained("boat", 10, 0.95, 0.9, 0.6, True)],
    [Slice("fish", "", 20, 0.5, 0.3, 0.7), Slice("fish", "background:snow", 10, 0.6, 0.31, 0.83)],
)


def test_a_shortcut_is_read_by_the_lower_end_of_its_interval() -> None:
    (one,) = decide("spurious>0.5", ROWS, None)
    assert one.failed and one.value == DESERT.low < DESERT.effect
    assert one.sentence == f"spurious is {DESERT.low:.3g} (background:desert on fish), above 0.5"
    passed = decide([f"spurious > {DESERT.low + 0.01}", "spurious<1e-3"], ROWS, None)
    assert not any(one.failed for one in passed) and "not above" in passed[0].sentence
    (answers,) = decide("false_answers>0.05", ROWS, None)
    assert answers.failed and answers.value == DESERT.points_low


def test_a_clean_classifier_passes() -> None:
    found = decide(["spurious>0.5", "false_answers>0.05", "findings>0"], CLEAN, None)
    assert [one.value for one in found] == [0, 0, 0] and not any(one.failed for one in found)
    core = [replace(row, declared_by="user") for row in ROWS]
    assert not decide("spurious>0.5", core, None)[0].failed  # what is declared is no shortcut


def test_a_condition_that_passes_for_want_of_pictures_says_so() -> None:
    wide = replace(DESERT, role="undecided", finding=False, low=-2.0, high=3.0, points_low=-0.1, points_high=0.2)
    narrow = replace(wide, high=0.4, points_high=0.01, role="none")
    rows = [wide, narrow]
    for text, told in (
        ("spurious>0.5", True),
        ("spurious>4", False),
        ("false_answers>0.1", True),
        ("findings>0", True),
    ):
        (one,) = decide(text, rows, None)
        assert not one.failed and ("1 of 2 effects are undecided and could be" in one.sentence) == told, text
    for one in decide(["spurious>0.5", "findings>0"], [replace(wide, declared_by="user"), narrow], None):
        assert "undecided" not in one.sentence  # what is declared is no shortcut
    (low,) = decide("spurious<0.5", rows, None)
    assert low.failed and "undecided" not in low.sentence


def test_a_condition_that_passes_shortcuts_with_wide_intervals_says_so() -> None:
    wide = replace(DESERT, effect=14.2, low=0.06, high=28.3, answered_with=0.9, answered_without=0.1, points_low=-0.1)
    for text in ("spurious>0.5", "false_answers>0.05"):
        (one,) = decide(text, [wide], None)
        assert not one.failed
        assert one.sentence.endswith(
            "; but one shortcut that is found is estimated above it, with an interval that reaches down to it"
        )
    (two,) = decide("spurious>0.5", [wide, wide], None)
    assert "but 2 shortcuts that are found are estimated above it" in two.sentence
    (none,) = decide("spurious>0.5", [replace(wide, effect=0.4)], None)
    assert "estimated above" not in none.sentence


def test_shortcuts_whose_answers_have_no_interval_are_told() -> None:
    blind = replace(DESERT, points_low=None, points_high=None)
    (one,) = decide("false_answers>0.05", [blind], None)
    assert "no shortcut is found that raises answers; the answers of 1 shortcut have no interval" in one.sentence
    (one,) = decide("false_answers>0.05", [DESERT, blind, blind], None)
    assert one.failed and "; the answers of 2 shortcuts have no interval" in one.sentence
    (one,) = decide("false_answers>0.05", [replace(blind, answered_with=None, answered_without=None)], None)
    assert "interval" not in one.sentence  # a target that is no class has no answers


def test_an_interval_that_nobody_knows_may_hold_anything() -> None:
    unknown = replace(
        DESERT, role="undecided", finding=False, low=math.nan, high=math.nan, points_low=None, points_high=None
    )
    for text in ("spurious>0.5", "false_answers>0.5", "findings>0"):
        assert "1 of 1 effects are undecided" in decide(text, [unknown], None)[0].sentence


def test_more_reliance_than_before_is_a_shortcut_of_a_difference() -> None:
    assert decide("findings>0", [replace(DESERT, role="more")], None, difference=True)[0].failed
    for text in ("worst_group<0.5", "unexplained>0"):
        with pytest.raises(ValueError, match="condition: wanted false_answers, spurious, findings for a difference"):
            decide(["findings>0", text], [DESERT], None, difference=True)


def test_placebos_are_no_rows_that_could_be_findings() -> None:
    wide = replace(DESERT, role="undecided", finding=False, low=-2.0, high=3.0, concept="intervention:mark")
    rows = [wide, *(replace(wide, concept=f"placebo:mark, {kind}") for kind in ("blank", "mirrored"))]
    (one,) = decide("findings>0", rows, None)
    assert "(shortcuts in 1 rows)" in one.sentence and "1 of 1 effects are undecided" in one.sentence
    assert not decide("findings>0", [replace(DESERT, role="less")], None)[0].failed


def test_a_log_probability_that_was_asked_for_by_name_is_spoken_of_as_its_class() -> None:
    rows = [replace(row, target=f"ClassProbability({row.target})") for row in ROWS]
    for text in ("worst_group<0.85", "false_answers>0.05"):
        ((plain,), (by_name,)) = (decide(text, some, None) for some in (ROWS, rows))
        assert by_name == plain and "ClassProbability" not in plain.sentence


def test_the_worst_group_is_that_of_own_pictures_or_of_findings() -> None:
    (own,) = decide("worst_group<0.85", ROWS, PHOTOGRAPHS)
    assert own.failed and own.value == 0.83 and "fish with background:snow" in own.sentence
    (drawn,) = decide("worst_group<0.85", ROWS, None)
    known = [row.accuracy_with for row in ROWS if row.finding and row.accuracy_with is not None]
    assert drawn.value <= min(known)
    assert decide("unexplained>0", ROWS, PHOTOGRAPHS)[0].sentence.startswith("unexplained is 1 (fish), above 0")


def test_a_small_group_does_not_hide_a_large_one_that_is_surely_worse_than_the_limit() -> None:
    small, large = Slice("fish", "background:snow", 6, 0.5, 0.19, 0.81), Slice("fish", "", 1006, 0.519, 0.488, 0.55)
    slices = [small, large, replace(large, concept="background:desert", pictures=1000, accuracy=0.52, high=0.551)]
    (one,) = decide("worst_group<0.7", ROWS, replace(PHOTOGRAPHS, slices=slices))
    assert one.failed and one.value == 0.551 and "1000 own pictures of fish with background:desert" in one.sentence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spurious", 'condition: wanted a measure, "<" or ">", and a number'),
        ("spurious>=1", "condition: wanted a measure"),
        ("spurios>1", "nearest: spurious"),
        ("unexplained>0", r"condition: wanted own pictures \(images=\)"),
    ],
)
def test_conditions_that_cannot_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide(text, ROWS, None)
    with pytest.raises(TypeError, match="conditions: wanted texts"):
        decide([], ROWS, None)


def test_a_measure_that_is_not_there_is_not_passed_over() -> None:
    blind = [replace(row, accuracy_with=None, accuracy_without=None) for row in ROWS]
    with pytest.raises(ValueError, match="condition: wanted own pictures with labels"):
        decide("worst_group<0.8", blind, None)
