"""The rows of a report's table of scores."""

from typing import NamedTuple

from diffexplain_fast.report.steps import moving_steps
from diffexplain_fast.results.explanation import ActivationScore, Explanation


class ScoreRow(NamedTuple):
    """The score of one prompt; the class-name prompt is the baseline."""

    name: str
    baseline: bool
    score: ActivationScore


def score_rows(explanation: Explanation) -> list[ScoreRow]:
    """Return the scores of an explanation, those on unseen draws first."""
    used = "the steps used" if moving_steps(explanation) else "the steps looked at, none of which changed the prompt"
    if moving_steps(explanation) and explanation.settings.get("found", {}).get("moved") is False:
        used = "the steps used, none of which made the prompt better"
    names = {
        "held_out": "Explanation, unseen start noise",
        "class_name": "Only the class name, the same unseen start noise",
        "train": f"Explanation, start noise that {used}",
    }
    scores = explanation.activation
    return [ScoreRow(text, key == "class_name", scores[key]) for key, text in names.items() if key in scores]
