"""Budgets: how they are written, and when they are spent."""

from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.methods.diffexplainer.budget import Budget, read_budget
from tests.explaining import quick_explanation


def test_budgets_are_read() -> None:
    assert read_budget(None) == Budget()
    assert read_budget("2000 rows") == Budget(rows=2000)


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
