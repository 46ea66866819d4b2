"""Values that a terminal and a notebook show on one screen."""

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

_WIDEST = 96
"""Characters of a value that are shown."""


class View(NamedTuple):
    """What is shown of a value: a title, and values by name."""

    title: str
    rows: Mapping[str, object]


class Viewed:
    """A value that shows itself in a few lines; a class of such values defines ``_view``."""

    def _view(self) -> View:
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return a title and a line for each row."""
        title, rows = self._view()
        width = max(map(len, rows), default=0)
        return "\n".join([title, *(f"  {name:{width}}  {_short(value)}" for name, value in rows.items())])

    def _repr_html_(self) -> str:
        """Return the same as a table for a notebook, with everything escaped."""
        title, rows = self._view()
        cells = (f"<tr><th>{escape(name)}</th><td>{escape(_short(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>{escape(title)}</caption>{''.join(cells)}</table>"


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
