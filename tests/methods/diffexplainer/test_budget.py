"""Budgets: how they are written, and when they are spent."""

import pytest

from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.methods.diffexplainer.budget import Budget, read_budget
from tests.explaining import quick_explanation


def test_budgets_are_read() -> None:
    assert read_budget(None) == Budget()
    assert read_budget("2000 rows") == Budget(rows=2000)
    assert read_budget(" 40s ") == Budget(seconds=40)
    assert read_budget("1.5 min") == Budget(seconds=90)


@pytest.mark.parametrize("text", ["", "40", "0 rows", "-3 s", "3 days", "rows", "1e9 rows"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^budget: wanted a number above 0 and a unit"):
        read_budget(text)
    with pytest.raises(TypeError, match=r"^budget: wanted text"):
        read_budget(40)


def test_rows_with_and_without_gradient_are_spent() -> None:
    cost = Cost(forward=6, gradient=3)
    assert not read_budget("10 rows").is_spent(cost) and read_budget("9 rows").is_spent(cost)
    assert not read_budget(None).is_spent(cost)
    cost.add(0, 0, seconds=50.0)
    assert read_budget("49 s").is_spent(cost) and not read_budget("2 min").is_spent(cost)


def test_an_optimisation_ends_with_its_budget() -> None:
    free, limited = quick_explanation(), quick_explanation(budget="20 rows")
    assert len(limited.history) < len(free.history)
    spent = limited.settings["found"]["cost"]
    assert 20 <= spent["forward"] + spent["gradient"] < 20 + 2 * 2 * 2 * 2, "by one step and one validation at most"
