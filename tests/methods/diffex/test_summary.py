"""Effects over pictures: which placebos they are compared with, and what is said where there are none."""

import pytest

from diffexplain_fast.methods.diffex.nulls import Null
from diffexplain_fast.methods.diffex.summary import effects_of, row_of
from diffexplain_fast.results.effects import Row
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
    assert "p-values over pictures are those of Student's test alone" in two.unmeasured
    assert two.unmeasured in two.summary()
    assert [effect.adjusted_p for effect in two.effects] == [student_p([row.effect for row in two.rows])]
