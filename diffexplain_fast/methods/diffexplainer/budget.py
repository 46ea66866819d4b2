"""What a search may spend: rows of the denoiser or seconds."""

import re
from typing import NamedTuple

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.cost import Cost

_FORM = re.compile(r"(\d+(?:\.\d+)?) ?(rows|s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


class Budget(NamedTuple):
    """A limit that is looked at between the steps of a search, so that a search exceeds it by one step at most.

    Attributes:
        rows: of the denoiser, with and without gradient; None for no such limit.
        seconds: on the wall; None for no such limit.
    """

    rows: float | None = None
    seconds: float | None = None

    def is_spent(self, cost: Cost) -> bool:
        """Whether nothing is left."""
        too_many = self.rows is not None and cost.rows >= self.rows
        return too_many or (self.seconds is not None and cost.spent[2] >= self.seconds)


def read_budget(budget: object) -> Budget:
    """Return a budget from text such as "2000 rows", "40 s", "5 min"; None is no limit.

    Raises:
        TypeError: no text.
        ValueError: another text.
    """
    if budget is None:
        return Budget()
    if not isinstance(budget, str):
        raise wrong_type("budget", 'text as "2000 rows" or "40 s", or None', budget)
    found = _FORM.fullmatch(budget.strip())
    if found is None or float(found[1]) == 0:
        raise wrong_value(
            "budget", 'a number above 0 and a unit, as "2000 rows", "40 s", "5 min", or None', repr(budget)
        )
    amount, unit = float(found[1]), found[2]
    return Budget(rows=amount) if unit == "rows" else Budget(seconds=amount * _SECONDS[unit])
