"""Families of operators and kernels: the kind of work that a name in a profile stands for."""

import re
import tomllib
from pathlib import Path

HOST, OTHER, MOVES = "host", "other", "layout and copy"
FAMILIES = ("convolution", "matmul", "attention", "norm", "elementwise", MOVES, HOST, OTHER)
"""``elementwise`` has reductions and resizing too. ``host`` is everything that computes nothing: Python, autograd,
views, allocation, launching. ``other`` is for names that no rule of ``families.toml`` matches."""

_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["rule"]
_RULES = [(rule["family"], re.compile(rule["pattern"].replace("{}", "|".join(rule["names"])))) for rule in _TABLE]


def family(name: str) -> str:
    """Return the family of an operator or kernel by the name that torch's profiler gives it."""
    return next((kind for kind, pattern in _RULES if pattern.fullmatch(name)), OTHER)
