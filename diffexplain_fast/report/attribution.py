"""One HTML file from attributions: no network, everything escaped."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.number_texts import effect_text, isolated
from diffexplain_fast.report.evidence import Card
from diffexplain_fast.report.page import inline_pictures, section_bytes, write_page
from diffexplain_fast.report.plots import MAIN, SOFT, draw_intervals, new_figure, plain
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.results.effects import Effect
from diffexplain_fast.targets import shown_target
from diffexplain_fast.targets.outputs import SOFTMAX, UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN_EDITS = 8
"""Strongest edits whose pictures are shown for each picture."""
_TERMS = ("target", "edit effect", "verified", "interval", "adjusted p", "interaction", "flips")
_LIT, _MOST_LIT = "#ff6a00", 200
"""Colour of a map of pixels, and how much of it covers a pixel at most, of 255."""


class Case(NamedTuple):
    """One picture: its number from 0, its caption, and cards of itself, its counterfactual and its strongest edits.

    ``edits`` is how many edits of one concept there are, and ``shown`` how many of them have a card.
    """

    number: int
    caption: str
    cards: list[Card]
    edits: int
    shown: int


class Section(NamedTuple):
    """What the template shows of one attribution; the largest effects of either sign come first.

    ``words`` is what the page's filter finds it by, beside title and verdict: sure effects and captions.
    """

    anchor: str
    result: Attribution
    title: str
    unit: str
    verdict: str
    cases: list[Case]
    effects: list[Effect]
    largest: float
    placebo: str
    settings: str
    words: str


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
    limit = section_bytes(len(results))
    sections = [_section(result, number, limit) for number, result in enumerate(results, start=1)]
    located = ("grad-cam",) if any(result.gradcam is not None for result in results) else ()
    told = ("agreement",) if any(result.audited is not None for result in results) else ()
    return write_page("attribution.html", path, title, (*_TERMS, *told, *located), sections=sections)


def plot_attribution(result: Attribution) -> "tuple[Figure, dict[str, Axes]]":
    """Draw the effect of every concept over all pictures, with its interval.

    Args:
        result: what to draw.

    Returns:
        A figure that no global state holds, and its axes: "effects".

    Raises:
        ImportError: matplotlib is not installed; names the extra.
    """
    figure = new_figure(8, 1 + 0.25 * max(len(result.effects), 4))
    axes: dict[str, Axes] = {"effects": figure.subplots()}
    axis = axes["effects"]
    for place, effect in enumerate(result.effects):
        axis.barh(place, effect.effect, color=MAIN if effect.n else SOFT)
    axis.set_yticks(range(len(result.effects)), [plain(effect.concept) for effect in result.effects])
    axis.invert_yaxis()
    draw_intervals(axis, [(place, effect.low, effect.high) for place, effect in enumerate(result.effects)])
    name = plain(shown_target(result.target, result.label))
    axis.set(xlabel=f"change of the score of {name}; grey: no edit was verified, or none was made")
    return figure, axes


def _section(result: Attribution, number: int, limit: int) -> Section:
    cases = [_case(result, i, limit // max(len(result.images), 1)) for i in range(len(result.images))]
    ends = [abs(value) for effect in result.effects for value in (effect.effect, effect.low, effect.high)]
    largest = max(filter(math.isfinite, ends), default=1.0) or 1.0
    placebo = ", ".join(
        f"{editor}: {effect_text(max(map(abs, values)), signs='')}"
        for editor, values in result.placebos.items()
        if values
    )
    settings = json.dumps(result.settings, indent=1, ensure_ascii=False, default=str)
    title = shown_target(result.target, result.label)
    effects = sorted(result.effects, key=lambda one: (one.screened, -abs(one.effect)))
    sure = [one for one in effects if one.n and (one.low > 0 or one.high < 0)]
    words = " ".join([*(one.concept for one in sure), *result.captions])
    verdict, anchor, unit = _verdict(title, sure), f"attribution-{number}", _unit(result)
    return Section(anchor, result, title, unit, verdict, cases, effects, largest, placebo, settings, words)


def _unit(result: Attribution) -> str:
    """Return the unit of effects; files of earlier versions do not have it, and are taken for those of logits."""
    return str(result.settings.get("unit", UNITS[SOFTMAX]))


def _verdict(title: str, sure: Sequence[Effect]) -> str:
    """Return a sentence: the verified concept with the largest effect whose interval excludes zero, the first one."""
    if not sure:
        return f"No concept has a verified effect on the score of {title}."
    first = sure[0]
    verb = "lowers" if first.effect < 0 else "raises"
    return f"{first.concept} {verb} the score of {title} the most, by {effect_text(abs(first.effect), signs='')}."


def _lit(image: Image.Image, places: np.ndarray) -> Image.Image:
    """Return a picture, grey, with a map [H, W] from 0 to 1 in colour."""
    colour, grey = Image.new("RGB", image.size, _LIT), image.convert("L").convert("RGB")
    return Image.composite(colour, grey, Image.fromarray((places * _MOST_LIT).astype("u1")))


def _case(result: Attribution, i: int, limit: int) -> Case:
    singles = [edit for edit in result.found.get(i, []) if len(edit.concepts) == 1]
    edits = sorted(singles, key=lambda edit: -abs(edit.effect))[:_SHOWN_EDITS]
    shown = [(result.images[i], "not edited", "the picture")]
    if result.gradcam is not None:
        shown.append((_lit(result.images[i], result.gradcam[i]), "with its Grad-CAM", "Grad-CAM"))
    if (flip := result.counterfactuals[i]) is not None:
        verb = f"{flip.before} becomes {flip.after}" if flip.flipped else f"stays {flip.before}"
        shown.append((flip.image, "its counterfactual", f"{verb} with {', '.join(flip.changes)}"))
    for edit in edits:
        named, checked = ", ".join(edit.concepts), "" if edit.verified else ", not verified"
        shown.append((edit.image, f"edited to show {named}", f"{isolated(named)}: {effect_text(edit.effect)}{checked}"))
    inlined = inline_pictures([image for image, _, _ in shown], limit)
    alts = [f"Picture {i + 1}, {alt}" for _, alt, _ in shown]
    cards = [Card(*picture, alt, said, None) for picture, alt, (_, _, said) in zip(inlined, alts, shown, strict=True)]
    return Case(i, result.captions[i], cards, len(singles), len(edits))
