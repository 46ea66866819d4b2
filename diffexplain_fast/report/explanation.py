"""One HTML file from explanations: no script, no network, everything escaped."""

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape
from PIL import Image

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.records import JsonObject
from diffexplain_fast.report.plots import Curve, fit_curve
from diffexplain_fast.results.explanation import ActivationScore, Explanation, Word
from diffexplain_fast.storage import write_bytes_atomic
from diffexplain_fast.targets.outputs import INDEPENDENT, REGRESSION, SIGMOID

CURVE_WIDTH, CURVE_HEIGHT = 300, 110
_SCORES = {
    "held_out": "Explanation, unseen draws",
    "train": "Explanation, draws it was tuned on",
    "class_name": "Only the class name",
}
_OPEN = (-math.inf, math.inf)
"""The interval of an effect without a known interval."""
_SHOWN_TRUTHS = 6
"""Number of the strongest attributes that are shown besides those with a role; the others are folded away."""


class NamedWord(NamedTuple):
    """A word near a soft token, and the role that the truth gives to an attribute of that name ("" if none)."""

    word: str
    similarity: float
    role: str


class TruthRow(NamedTuple):
    """The measured effect of one attribute on the class logit; ``left`` and the widths are percent of the axis."""

    kind: str
    value: str
    effect: float
    low: float
    high: float
    role: str
    left: float
    width: float
    low_place: float
    high_place: float


class ScoreRow(NamedTuple):
    """The score of one prompt; the class-name prompt is the baseline."""

    name: str
    baseline: bool
    score: ActivationScore


class Section(NamedTuple):
    """The values of one explanation that the template shows."""

    anchor: str
    classifier: str
    title: str
    target: str
    verdict: str
    images: list[str]
    words: list[list[NamedWord]]
    scores: list[ScoreRow]
    curve: Curve | None
    steps: str
    seconds: float
    share: str
    no_rate: str
    mean: str
    scale: str
    truth: list[TruthRow]
    more_truth: list[TruthRow]
    zero: float
    settings: str


def render_report(
    explanations: Sequence[Explanation], path: str | Path, title: str = "What does the classifier look for?"
) -> Path:
    """Write explanations as one HTML file that needs no network.

    Args:
        explanations: at least one; shown in this order.
        path: the file; its folder is created if it does not exist.
        title: heading of the page.

    Returns:
        The file.

    Raises:
        ValueError: no explanation.
        StorageError: no space or no permission.
    """
    if not explanations:
        raise wrong_value("results", "at least one", "none")
    sections = [build_section(explanation, number) for number, explanation in enumerate(explanations, start=1)]
    page = load_template("report.html").render(title=title, sections=sections, width=CURVE_WIDTH, height=CURVE_HEIGHT)
    write_bytes_atomic(path, page.encode(errors="backslashreplace"))  # a label may hold half a surrogate pair
    return Path(path)


def load_template(name: str) -> Template:
    """Return a template of this folder; it escapes all values that it shows.

    Args:
        name: name of its file.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def build_section(explanation: Explanation, number: int) -> Section:
    """Return the values of an explanation that the template shows.

    Args:
        explanation: the explanation.
        number: its position in the report, from 1.
    """
    rows, zero = _truth_rows((explanation.truth or {}).get("attributes", []))
    roles = {row.value: row.role for row in rows if row.role != "none"}
    shown = [row for i, row in enumerate(rows) if row.role != "none" or i < _SHOWN_TRUTHS]
    losses = [item.loss for item in explanation.history]
    return Section(
        anchor=f"explanation-{number}",
        classifier=str(explanation.settings.get("classifier", "")),
        title=explanation.label or explanation.target,
        target=explanation.target,
        verdict=describe_outcome(explanation),
        images=[inline_png(image) for image in explanation.images],
        words=[[_name_role(word, roles) for word in token] for token in explanation.words],
        scores=_score_rows(explanation.activation),
        curve=fit_curve(losses, CURVE_WIDTH, CURVE_HEIGHT) if _moves(explanation) else None,
        steps=describe_steps(explanation),
        seconds=sum(item.seconds for item in explanation.history),
        **_headings(explanation),
        truth=shown,
        more_truth=[row for row in rows if row not in shown],
        zero=zero,
        settings=json.dumps(explanation.settings, indent=1, ensure_ascii=False, default=str),
    )


def describe_outcome(explanation: Explanation) -> str:
    """Return a sentence: how often the classifier agrees on unseen draws, and how often for the class name.

    Args:
        explanation: the explanation.
    """
    score, baseline = explanation.activation.get("held_out"), explanation.activation.get("class_name")
    if score is None:
        return ""
    if score.rate is None:
        return _describe_number(explanation, score, baseline)
    hits = round(score.rate * score.n)
    pictures, name = f"{hits} of {score.n} pictures from unseen draws", explanation.label
    sentence = f"{pictures} are classified as {name}"
    if has_independent_classes(explanation):
        sentence = f"{pictures} have a probability above 0.5 of being {name}"
    if baseline is None or baseline.rate is None:
        return f"{sentence}."
    return f"{sentence}; with only the class name as the prompt, {round(baseline.rate * baseline.n)} of {baseline.n}."


def _describe_number(explanation: Explanation, score: ActivationScore, baseline: ActivationScore | None) -> str:
    if not is_number(explanation):
        return f"Mean target score {score.mean_logit:.2f} over {score.n} unseen draws."
    within = "" if score.interval is None else f" [{score.interval[0]:.4g}, {score.interval[1]:.4g}]"
    sentence = f"The mean {explanation.label or 'output'} is {score.mean_logit:.4g}{within} over {score.n} unseen draws"
    if baseline is None or explanation.reached is None:
        return f"{sentence}; an output without a name has no pictures of its name to compare with."
    side = "below" if explanation.settings.get("direction") == "fall" else "above"
    beyond = f"{explanation.settings.get('to_be_beyond', math.nan):.4g}"
    reached = f"{'reached' if explanation.reached else 'not reached'}, which takes a mean {side} {beyond}"
    name = f"only the name as the prompt gives {baseline.mean_logit:.4g}"
    return f"{sentence}; {name}. The target is {reached}, beyond 95 % of the pictures of the name."


def is_number(explanation: Explanation) -> bool:
    """Return whether the target is one output of a regression, whose scores are in its units."""
    return explanation.output == REGRESSION and "direction" in explanation.settings


def has_independent_classes(explanation: Explanation) -> bool:
    """Return whether the classes are independent, so that the probability of a class decides."""
    return explanation.output in (SIGMOID, INDEPENDENT)


def _headings(explanation: Explanation) -> dict[str, str]:
    """Return the headings of the columns of a section, and the text in place of a missing rate."""
    if is_number(explanation):
        return {"share": "share", "no_rate": "a number has no rate", "mean": "output", "scale": "output"}
    yes = "share with a probability above 0.5 of" if has_independent_classes(explanation) else "share answered"
    share = f'{yes} "{explanation.label or explanation.target}"'
    scale = "log-odds" if has_independent_classes(explanation) else "logit"
    mean = "log-odds" if has_independent_classes(explanation) and explanation.label is not None else "score"
    return {"share": share, "no_rate": "the target is not a class", "mean": mean, "scale": scale}


def describe_steps(explanation: Explanation) -> str:
    """Return a sentence: whether the gradient moved the prompt, or its first words were enough.

    Args:
        explanation: the explanation.
    """
    moved = _moves(explanation)
    if not moved:
        return "No step of the gradient was taken: the words that the search started from convinced the classifier."
    return f"{moved} step{'s' if moved > 1 else ''} of the gradient, from words that were tried first."


def _moves(explanation: Explanation) -> int:
    """Return the number of steps that changed the prompt: a step with convincing pictures computes no gradient."""
    return sum(item.gradient_norm > 0 for item in explanation.history)


def _score_rows(activation: dict[str, ActivationScore]) -> list[ScoreRow]:
    return [ScoreRow(text, key == "class_name", activation[key]) for key, text in _SCORES.items() if key in activation]


def _name_role(word: Word, roles: dict[str, str]) -> NamedWord:
    return NamedWord(word.word, word.similarity, roles.get(word.word.lower(), ""))


def _truth_rows(attributes: Sequence[JsonObject]) -> tuple[list[TruthRow], float]:
    """Return the rows, strongest first, and the position of zero on their common axis in percent."""
    if not attributes:
        return [], 0.0
    known = [{key: value for key, value in row.items() if value is not None} for row in attributes]
    attributes = [{"interval": _OPEN, "role": "none"} | row for row in known]
    ends = [0.0, *(end for row in attributes for end in (*row["interval"], row["effect"]) if math.isfinite(end))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    rows = []
    for row in sorted(attributes, key=lambda row: -row["effect"]):
        kind, _, value = row["attribute"].rpartition(":")
        left, right = sorted((place(0.0), place(row["effect"])))
        bottom, top = row["interval"]
        rows.append(
            TruthRow(
                kind, value, row["effect"], bottom, top, row["role"], left, right - left, place(bottom), place(top)
            )
        )
    return rows, place(0.0)


def inline_png(image: Image.Image) -> str:
    """Return a picture as the address of an image in the page itself."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
