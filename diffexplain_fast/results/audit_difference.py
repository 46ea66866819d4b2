"""How two audits differ, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffexplain_fast.records import Json
from diffexplain_fast.results.audit_rows import AuditRow


@dataclass(frozen=True)
class Side:
    """One of two audits: its rows, the arrays of its trial, and its settings."""

    rows: Sequence[AuditRow]
    outcomes: Mapping[str, np.ndarray]
    settings: Mapping[str, Json]


def row_differences(ours: Side, theirs: Side) -> list[AuditRow]:
    """Return the differences of all rows that both audits have, the first minus the second."""
    raise NotImplementedError("differences of audits")
