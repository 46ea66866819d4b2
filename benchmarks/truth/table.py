"""The figures of all methods as text."""

from typing import Any

from benchmarks.truth.rows import Row

_WIDTH = 16


def table(found: dict[str, Row]) -> str:
    """Return the main figures, a line for each method: a share, its denominator, and in brackets its lower bound."""
    columns = {
        "AUC": lambda f: _number(_at(f, "cells", "AUC, spurious by truth's role", "all")),
        "clear": lambda f: _number(_at(f, "cells", "AUC, spurious by truth's role", "clear")),
        "precision": lambda f: _share(_at(f, "cells", "precision, |truth| above the minimal effect")),
        "recall": lambda f: _share(_at(f, "cells", "recall, |truth| at least 0.4 above the minimal effect", "raised")),
        "false alarms": lambda f: _share(_at(f, "false alarms")),
        "verdicts": lambda f: _share(_at(f, "verdicts", "all")),
        "first word": lambda f: _share(_at(f, "first word", "all")),
        "all_of both": lambda f: _share(_at(f, "pairs", "all_of", "both found")),
        "any_of both": lambda f: _share(_at(f, "pairs", "any_of", "both found")),
        "predictiveness": lambda f: _share(_at(f, "predictiveness", "all")),
        "CPU seconds": lambda f: _number(_at(f, "CPU seconds")),
    }
    wide = 20
    lines = ["".join([" " * _WIDTH, *(f"{name:>{wide}}" for name in columns)])]
    for method, figures in found.items():
        lines.append("".join([f"{method:<{_WIDTH}}", *(f"{show(figures):>{wide}}" for show in columns.values())]))
    return "\n".join([*lines, *_coverage(found)]) + "\n"


def _coverage(found: dict[str, Row]) -> list[str]:
    """Return a line for each group of a method with intervals: how many cover the truth."""
    lines = []
    for method, figures in found.items():
        groups = _at(figures, "cells", "covered, by group") or {}
        if groups:
            covered = {"all": figures["cells"]["covered"], "findings": figures["cells"]["covered, findings"], **groups}
            said = ", ".join(f"{name} {_share(share)}" for name, share in covered.items())
            half = _number(figures["cells"]["median half-width"])
            lines.append(f"{method}, intervals that hold the truth: {said}; median half-width {half}")
    return lines


def _at(figures: Any, *keys: str) -> Any:
    for key in keys:
        figures = None if figures is None else figures.get(key)
    return figures


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(found: Row | None) -> str:
    """Return a share or mean, its denominator, and its bound in brackets."""
    value = None if found is None else found.get("share", found.get("mean"))
    if found is None or value is None:
        return "-"
    bound, sign = (found["at most"], "<") if "at most" in found else (found.get("at least"), ">")
    return f"{value:.2f}/{found['of']}" + ("" if bound is None else f" ({sign}{bound:.2f})")
