"""How two audits differ, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.stats.intervals import normal_quantile
