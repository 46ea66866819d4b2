"""The limit of what a run may spend, as its user writes it: rows of the denoiser, or seconds."""

import re
from typing import NamedTuple

from diffexplain_fast.errors import wrong_type, wrong_value

_FORM = re.compile(r"(\d+)(?: ?rows)?|(\d+(?:\.\d+)?) ?(s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_WANTED = 'rows of the denoiser as 2000 or "2000 rows", a time as "40 s" or "5 min", or None'


class Limit(NamedTuple):
    """What may be spent; None for no limit.

    Attributes:
        rows: of the denoiser, with and without gradient.
        seconds: on the wall.
    """

    rows: int | None = None
    seconds: float | None = None


def read_limit(budget: object) -> Limit:
    """Return a limit from 2000, "2000", "2000 rows", "40 s", "5 min" or "1 h"; None is no limit.

    Args:
        budget: what the user wrote.

    Raises:
        TypeError: neither text nor a whole number.
        ValueError: another text, such as a time without a unit or a share of a row, or nothing to spend.
    """
    if budget is None:
        return Limit()
    if not isinstance(budget, str | int) or isinstance(budget, bool):
        raise wrong_type("budget", _WANTED, budget)
    found = _FORM.fullmatch(str(budget).strip())
    if found is None or float(found[1] or found[2]) == 0:
        raise wrong_value("budget", _WANTED, repr(budget))
    return Limit(rows=int(found[1])) if found[1] else Limit(seconds=float(found[2]) * _SECONDS[found[3]])
