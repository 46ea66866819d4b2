"""One HTML file from attributions: no script, no network, everything escaped."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.report.explanation import load_template
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.results.effects import Counterfactual, Edit, Row
from diffexplain_fast.storage import write_bytes_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN_EDITS = 8
"""Strongest edits whose pictures are shown for each picture."""
_MAIN, _SOFT = "#2f6fb3", "#a3abb5"


class Shown(NamedTuple):
    """An edited picture with its numbers."""

    image: str
    edit: Edit


class Case(NamedTuple):
    """One picture: itself, its caption, its strongest edits, its rows and its counterfactual."""

    number: int
    image: str
    caption: str
    edits: list[Shown]
    rows: list[Row]
    flip: Counterfactual | None
    flip_image: str


class Section(NamedTuple):
    """What the template shows of one attribution."""

    anchor: str
    result: Attribution
    title: str
    cases: list[Case]
    largest: float
    placebo: str
    settings: str


def render_attributions(results: Sequence[Attribution], path: str | Path, title: str) -> Path:
    """Write attributions as one HTML file that needs no network.

    Args:
        results: at least one; shown in this order.
        path: the file; its folder is made if it does not exist.
        title: heading of the page.

    Returns:
        The file.

    Raises:
        ValueError: no attribution.
        StorageError: no space or no permission.
    """
    if not results:
        raise wrong_value("results", "at least one", "none")
    sections = [_section(result, number) for number, result in enumerate(results, start=1)]
    page = load_template("attribution.html").render(title=title, sections=sections)
    write_bytes_atomic(path, page.encode(errors="backslashreplace"))  # a label may hold half a surrogate pair
    return Path(path)


def plot_attribution(result: Attribution) -> "tuple[Figure, dict[str, Axes]]":
    """Draw the effect of every concept over all pictures, with its interval.

    Args:
        result: what to draw.

    Returns:
        A figure that no global state holds, and its axes: "effects".

    Raises:
        ImportError: matplotlib is not installed; names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        remedy = "plot() needs matplotlib: pip install 'diffexplain-fast[plot]'; report() does without"
        raise ImportError(remedy) from error
    figure = Figure(figsize=(8, 1 + 0.25 * max(len(result.effects), 4)), layout="constrained")
    axes: dict[str, Axes] = {"effects": figure.subplots()}
    axis = axes["effects"]
    for place, effect in enumerate(result.effects):
        axis.barh(place, effect.effect, color=_MAIN if effect.n else _SOFT)
        axis.plot((effect.low, effect.high), (place, place), color="black")
    axis.set_yticks(range(len(result.effects)), [effect.concept for effect in result.effects])
    axis.invert_yaxis()
    axis.set(xlabel=f"change of the score of {result.label or result.target}; grey: no edit was verified")
    return figure, axes


def _section(result: Attribution, number: int) -> Section:
    cases = [_case(result, i) for i in range(len(result.images))]
    sizes = [abs(value) for effect in result.effects for value in (effect.effect, effect.low, effect.high)]
    placebo = ", ".join(
        f"{editor}: {max(map(abs, values)):.2f}" for editor, values in result.placebos.items() if values
    )
    settings = json.dumps(result.settings, indent=1, ensure_ascii=False, default=str)
    title = result.label or result.target
    return Section(f"attribution-{number}", result, title, cases, max(sizes, default=1.0) or 1.0, placebo, settings)


def _case(result: Attribution, i: int) -> Case:
    rows = sorted((row for row in result.rows if row.image == i), key=lambda row: -abs(row.effect))
    singles = [edit for edit in result.found.get(i, []) if len(edit.concepts) == 1]
    strongest = sorted(singles, key=lambda edit: -abs(edit.effect))[:_SHOWN_EDITS]
    shown = [Shown(_inline(edit.image), edit) for edit in strongest]
    flip = result.counterfactuals[i]
    picture = "" if flip is None else _inline(flip.image)
    return Case(i, _inline(result.images[i]), result.captions[i], shown, rows, flip, picture)


def _inline(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
