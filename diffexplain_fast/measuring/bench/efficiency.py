"""How near to a GPU's limit ours came where it was measured: what an estimate for another card rests on."""

from collections.abc import Iterable
from typing import NamedTuple

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.rivals import OURS
from diffexplain_fast.measuring.bench.rows import Row, figure, group_of


class Efficiency(NamedTuple):
    """A measured share.

    Attributes:
        share: of the FLOP in a second that a large matrix product reached on the same card, in (0, 1].
        source: what was measured, where and when.
    """

    share: float
    source: str


def measured_efficiency(rows: Iterable[Row]) -> Efficiency:
    """Return the share of the last row of ours on a GPU in half precision.

    Args:
        rows: in the order in which they were appended.

    Raises:
        ValueError: there is no such row.
    """
    found = [row for row in rows if row["rival"] == OURS and row["dtype"] in ("bfloat16", "float16")]
    found = [row for row in found if row.get("gpu") and figure(row, "share_of_ceiling")]
    if not found:
        wanted = f"a file with a row of {OURS!r}, measured on a GPU in bfloat16 or float16 (bench run --device cuda)"
        raise wrong_value("rows", wanted, "none of them")
    workload, dtype, device = group_of(found[-1])
    return Efficiency(found[-1]["share_of_ceiling"], f"{workload} in {dtype} on {device}, {found[-1]['date']}")
