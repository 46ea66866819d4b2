"""Figures of an explanation: curves for the report, and matplotlib for notebooks."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from diffexplain_fast.results.explanation import Explanation, first_words
from diffexplain_fast.targets.outputs import INDEPENDENT, REGRESSION, SIGMOID

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAIN, SOFT = "#2f6fb3", "#a3abb5"
"""Colours of bars that count, and of the others."""
_TICKS = 3
_NAMES = {"held_out": "explanation,\nunseen draws", "train": "explanation,\ntraining draws", "class_name": "class name"}


class Tick(NamedTuple):
    """A position on an axis and its label."""

    place: float
    text: str


class Curve(NamedTuple):
    """A line inside a box: SVG points, with the first and the last one, and the ticks of both axes."""

    points: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def plain(text: str) -> str:
    """Return a text in which matplotlib finds no mathematics: a label may hold dollars."""
    return text.replace("$", r"\$")


def fit_curve(values: Sequence[float], width: float, height: float) -> Curve | None:
    """Scale a sequence into a box whose y axis points down, as in SVG.

    Args:
        values: one number per iteration; numbers that are not finite are left out.
        width: width of the box in SVG units.
        height: height of the box in SVG units.

    Returns:
        The curve, or None if fewer than two values are finite.
    """
    finite = [(i, value) for i, value in enumerate(values) if math.isfinite(value)]
    if len(finite) < 2:
        return None
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    span, last = (high - low) or 1.0, max(len(values) - 1, 1)
    points = " ".join(f"{width * i / last:.1f},{height * (high - value) / span:.1f}" for i, value in finite)
    shares = [k / (_TICKS - 1) for k in range(_TICKS)]
    x_ticks = [Tick(width * share, str(round(last * share))) for share in shares]
    return Curve(points, x_ticks, [Tick(height * share, f"{high - span * share:.3g}") for share in shares])


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure that pyplot does not hold.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        ImportError: matplotlib is not installed; names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        remedy = "plot() needs matplotlib: pip install 'diffexplain-fast[plot]'; report() does without"
        raise ImportError(remedy) from error
    return Figure(figsize=(width, height), layout="constrained")


def draw_intervals(axis: "Axes", intervals: Sequence[tuple[int, float, float]]) -> None:
    """Draw a line for each interval over bars that are drawn already; an end without a bound goes to the edge.

    Args:
        axis: with horizontal bars.
        intervals: place, lower and upper end of each; one that is unknown on both sides has no line.
    """
    left, right = axis.get_xlim()
    ends = [end for _, *both in intervals for end in both if math.isfinite(end)]
    left, right = min([left, *ends]), max([right, *ends])
    for place, low, high in intervals:
        if math.isfinite(low) or math.isfinite(high):
            axis.plot((max(low, left), min(high, right)), (place, place), color="black")


def plot_explanation(explanation: Explanation) -> "tuple[Figure, dict[str, Axes]]":
    """Draw images, scores and loss in one figure.

    Args:
        explanation: the explanation.

    Returns:
        A figure, which pyplot does not hold, and its axes: "images", "activation" and "loss".

    Raises:
        ImportError: matplotlib is not installed; names the extra.
    """
    figure = new_figure(10, 5)
    axes: dict[str, Axes] = figure.subplot_mosaic([["images", "images"], ["activation", "loss"]])
    words = ", ".join(first_words(explanation))
    figure.suptitle(plain(f"{explanation.target}: {words}" if words else explanation.target))
    _draw_images(axes["images"], explanation)
    _draw_scores(axes["activation"], explanation)
    axes["loss"].plot([item.iteration for item in explanation.history], [item.loss for item in explanation.history])
    axes["loss"].set(xlabel="iteration", ylabel="loss")
    return figure, axes


def _draw_images(axis: "Axes", explanation: Explanation) -> None:
    axis.set_axis_off()
    axis.set_title("pictures from unseen draws", fontsize="medium")
    for i, image in enumerate(explanation.images):
        axis.imshow(image, extent=(i * 1.05, i * 1.05 + 1, 0, image.height / image.width))
    if explanation.images:
        axis.set(
            xlim=(0, len(explanation.images) * 1.05),
            ylim=(0, explanation.images[0].height / explanation.images[0].width),
        )


def _draw_scores(axis: "Axes", explanation: Explanation) -> None:
    rows = [(_NAMES.get(name, name), score) for name, score in explanation.activation.items()]
    rates = all(score.rate is not None for _, score in rows)
    for place, (_, score) in enumerate(rows):
        value = score.rate if rates and score.rate is not None else score.mean_target
        axis.barh(place, value)
        if score.interval is not None:
            axis.plot(score.interval, (place, place), color="black")
    axis.set_yticks(range(len(rows)), [plain(name) for name, _ in rows])
    axis.invert_yaxis()
    independent = explanation.output in (SIGMOID, INDEPENDENT)
    hit = "probability of the target above 0.5" if independent else "argmax = target"
    number = "mean output, 95 % interval" if explanation.output == REGRESSION else "mean target score"
    axis.set_xlabel(f"rate of {hit}, 95 % interval" if rates else number)
    if rates:
        axis.set_xlim(0, 1)
