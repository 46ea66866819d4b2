"""Effects over pictures: which placebos they are compared with, and what is said where there are none."""

from dataclasses import replace

import pytest
import scipy.stats

from diffexplain_fast.methods.diffex.nulls import Null
from diffexplain_fast.methods.diffex.pairs import interactions_of
from diffexplain_fast.methods.diffex.summary import effects_of, row_of, screened_row
from diffexplain_fast.results.effects import Row
from diffexplain_fast.stats.intervals import mean_interval
from diffexplain_fast.stats.placebo import placebo_p, student_p
from tests.methods.diffex.test_nulls import trial
from tests.methods.diffex.worlds import pictures, quick_attribution


def rows_by(editors: list[str], effect: float) -> list[Row]:
    """Return rows of one concept, with the editor of each picture."""
    values = [effect + 0.1 * (-1) ** i for i in range(len(editors))]
    return [Row(i, "a", values[i], -9, 9, 1.0, 1, values[i], None, 1.0, editor) for i, editor in enumerate(editors)]


def test_without_placebos_several_pictures_have_students_p_value_and_one_has_none() -> None:
    rows = rows_by(["guide"] * 6, 5.0)
    (effect,) = effects_of(rows, [Null()] * 6)
    assert effect.adjusted_p == student_p([row.effect for row in rows]) < 1e-6
    assert effects_of(rows[:1], [Null()])[0].adjusted_p == 1


def test_the_null_over_pictures_is_that_of_all_editors_that_were_used_in_any_order() -> None:
    placebos = {"swap": [0.01, -0.01, 0.02, 0.01], "guided swap": [2.0, -2.5, 1.5, 2.0]}
    rows, nulls = rows_by(["early guided swap", *["stronger swap"] * 9], 1.5), [Null(placebos=placebos)] * 10
    one, other = (effects_of(some, nulls)[0].adjusted_p for some in (rows, rows[::-1]))
    assert one == other
    alone = [placebo_p(1.5, placebos[name]) for name in placebos]
    assert alone[0] < one < alone[1]


def test_the_interval_of_a_picture_is_that_of_the_worst_editor_of_its_edits() -> None:
    null, some = Null([], [], {"swap": [0.1] * 5, "inpaint": [0.5] * 5}), [trial(1.0), trial(1.0, editor="inpaint")]
    for trials in (some, some[::-1]):
        row = row_of(0, trials, null)
        assert row.high - row.effect == pytest.approx(null.spread("inpaint"))


def test_an_attribution_without_placebos_says_that_p_values_are_students() -> None:
    question = {"captions": ["a red fish"], "taxonomy": {"background": ["snow"]}, "editor": "guide"}
    one = quick_attribution(images=pictures(1), **question)
    two = quick_attribution(images=pictures(2), **question | {"captions": question["captions"] * 2})
    assert one.placebos == two.placebos == {} and one.unmeasured == ""
    assert "p-values over pictures come from Student's test and the errors of edits alone" in two.unmeasured
    assert two.unmeasured in two.summary()
    (effect,) = two.effects
    assert effect.adjusted_p >= student_p([row.effect for row in two.rows])


def test_equal_pictures_are_one() -> None:
    null, others = Null([0.3, -0.3, 0.3], [0.2, -0.2]), Null([0.1, -0.1, 0.2], [0.1, -0.1])
    row = row_of(0, [trial(1.0)], null)
    (one,) = effects_of([row], [null])
    (twice,) = effects_of([row, replace(row, image=1)], [null, null], [0, 0])
    assert twice == one
    far = row_of(2, [trial(-2.0)], others)
    (two,) = effects_of([row, far], [null, null, others])
    (three,) = effects_of([row, replace(row, image=1), far], [null, null, others], [0, 0, 2])
    assert (three.effect, three.effect_all, three.n) == (-0.5, -0.5, 2) and three == two
    both = {("a",): [trial(1.0)], ("b",): [trial(2.0, ("b",))], ("a", "b"): [trial(4.0, ("a", "b"))]}
    assert interactions_of([both, both], [null, null], [0, 0]) == interactions_of([both], [null])


def test_equal_pictures_are_one_also_where_a_concept_was_only_screened() -> None:
    rows = [*(screened_row(i, "a", 2.0) for i in range(3)), screened_row(3, "a", 6.0)]
    rows += [screened_row(i, "b", 3.0) for i in range(4)]
    found = effects_of(rows, [Null()] * 4, [0, 0, 0, 3])
    assert [(one.concept, one.effect, one.effect_all) for one in found] == [("a", 4.0, 4.0), ("b", 3.0, 3.0)]


def test_equal_pictures_are_one_among_the_editors_whose_placebos_are_the_null() -> None:
    placebos = {"swap": [0.01, -0.01, 0.02, 0.01], "guided swap": [2.0, -2.5, 1.5, 2.0]}
    rows = [replace(row, effect=1.5) for row in rows_by([*["swap"] * 6, *["guided swap"] * 4], 1.5)]
    nulls, same = [Null(placebos=placebos)] * 10, [*range(6), 6, 6, 6, 6]
    (one,), (more,), (apart,) = (effects_of(*some) for some in ((rows[:7], nulls), (rows, nulls, same), (rows, nulls)))
    assert more.adjusted_p == one.adjusted_p < apart.adjusted_p and more.n == 7


def test_equal_pictures_have_the_placebos_of_one() -> None:
    question = {"taxonomy": {"ground": ["snow"], "thing": ["boat"]}, "beam_width": 1}
    one = quick_attribution(images=pictures(1), captions=["a fish"], **question)
    two = quick_attribution(images=pictures(1).repeat(2, 1, 1, 1), captions=["a fish"] * 2, **question)
    assert two.placebos == one.placebos and sum(map(len, one.placebos.values())) == 2


def test_pictures_that_agree_better_than_each_is_right_have_the_interval_of_their_errors() -> None:
    null = Null([0.3, -0.3, 0.3], [0.2, -0.2, 0.2])
    error = null.error("swap")
    assert error is not None
    rows = [row_of(i, [trial(1 + 0.001 * i)], null) for i in range(3)]
    (effect,) = effects_of(rows, [null] * 3)
    half = scipy.stats.t.ppf(0.975, error.freedom) * error.deviation / 3**0.5  # of one estimate
    assert (effect.low, effect.high) == pytest.approx((1.001 - half, 1.001 + half), rel=1e-6)
    wanted = 2 * scipy.stats.t.sf(1.001 / (error.deviation / 3**0.5), error.freedom)
    assert effect.adjusted_p == pytest.approx(wanted, rel=1e-5)
    parts = [
        {("a",): [trial(1.0)], ("b",): [trial(2.0, ("b",))], ("a", "b"): [trial(4.0 + i / 1000, ("a", "b"))]}
        for i in range(3)
    ]
    (pair,) = interactions_of(parts, [null] * 3)
    assert pair.high - pair.effect == pytest.approx(scipy.stats.t.ppf(0.975, error.freedom) * error.deviation)
    far = [row_of(i, [trial(9.0 * i)], null) for i in range(3)]  # these vary more than they err
    (apart,) = effects_of(far, [null] * 3)
    assert (apart.low, apart.high) == pytest.approx(mean_interval([0.0, 9.0, 18.0]))


def test_the_same_picture_twice_is_no_evidence_of_two() -> None:
    question = {"captions": ["a fish"], "taxonomy": {"ground": ["snow"], "thing": ["boat"]}, "beam_width": 1}
    one = quick_attribution(images=pictures(1), **question)
    two = quick_attribution(images=pictures(1).repeat(2, 1, 1, 1), **question | {"captions": ["a fish"] * 2})
    for single, double in zip(one.effects, two.effects, strict=True):
        assert double.n <= 1 and double.high - double.low >= 0.9 * (single.high - single.low) > 0
