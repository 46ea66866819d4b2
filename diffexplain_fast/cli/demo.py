"""``diffexplain-fast demo``: explain one class of each kind whose truth is known."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypedDict

import typer

from diffexplain_fast.cli.output import check_folder
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.truth import role_of_effect
from diffexplain_fast.runs.bars import ProgressBars

if TYPE_CHECKING:
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.results.explanation import Explanation


class _Bounds(TypedDict):
    budget: str
    iterations: int
    restarts: int
    n_validation: int
    n_score: int


class Case(NamedTuple):
    """One class of the demo.

    Attributes:
        kind: what the class goes by.
        classifier: a shipped one, or ``MADE``.
        label: the class.
    """

    kind: str
    classifier: str
    label: str


MADE = "made"
"""The classifier of the demo, with two planted shortcuts."""
CASES = (  # those of one classifier beside each other
    Case("one word", "companion", "tree"),
    Case("two words together", MADE, "fish"),
    Case("a pattern without a name", MADE, "house"),
    Case("its own object", "clean", "bird"),
)
_QUICK = _Bounds(budget="5600 rows", iterations=20, restarts=1, n_validation=8, n_score=16)
"""Bounds that keep the demo short; what no word says, a pair or a pattern, is searched for until they are met."""
_ABOUT = """\
Explains {count} classes whose truth is known: {kinds}.
A small diffusion model draws pictures until a classifier answers with the class, and the words of its prompt say why.
This takes one to three minutes on two cores.
No download and no GPU is needed. A report comes last: {report}
"""
_REPORT = "report.html"
_TITLE = "What do these classifiers really look at?"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html and the explanations.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = 0,
) -> None:
    """First run: explain four classes with known truth.

    One class goes by a word, one by two words together, one by a pattern that no word names, and one by its own object.
    The demo needs no download and no GPU. The method does not know what a class goes by; the report shows its findings
    beside the measured truth.
    """
    from diffexplain_fast.api.explainer import Explainer
    from diffexplain_fast.models.loading import load_pipeline
    from diffexplain_fast.report.explanation import render_report

    check_folder(out, [_REPORT], [f"{case.classifier}-{case.label}" for case in CASES])
    kinds = ", ".join(f"{case.label} ({case.kind})" for case in CASES)
    print(_ABOUT.format(count=len(CASES), kinds=kinds, report=out / _REPORT), flush=True)
    pipeline = load_pipeline("tinyworld")
    explanations: list[Explanation] = []
    for name, cases in groupby(CASES, key=lambda case: case.classifier):
        classifier = _classifier(name)
        with Explainer(pipeline, classifier, seed=seed) as explainer:
            for case in cases:
                with ProgressBars(f"{len(explanations) + 1}/{len(CASES)} {name}, {case.label}") as bars:
                    explanation = explainer.explain(case.label, callback=bars, **_QUICK)
                explanation.save(out / f"{name}-{case.label}")
                explanations.append(explanation)
                print(f"{summary(explanation)}\n  {known(case, (classifier.truth or {}).get(case.label, {}))}")
    print(f"\nOpen {render_report(explanations, out / _REPORT, title=_TITLE)}")


def _classifier(name: str) -> "Classifier":
    """Load a shipped classifier, or the one of the demo, which ships too and is trained only if its recipe changed."""
    from diffexplain_fast.recipe.making import DEMO, load_classifier, make_classifier

    if name != MADE:
        return load_classifier(name)
    return make_classifier(DEMO, progress=True)


def known(case: Case, truth: JsonObject) -> str:
    """Return a sentence with what the measured truth says of a class, which the method never reads.

    Args:
        case: the class.
        truth: of the class.
    """
    found = [
        f"{_value(row['first'])} and {_value(row['second'])} together {row['effect']:+.1f}"
        for row in _raising(truth, "interactions")
    ]
    found += [f"{_value(row['cue'])}, which no word names, {row['effect']:+.1f}" for row in _raising(truth, "unnamed")]
    alone = [f"{_value(row['attribute'])} {row['effect']:+.1f}" for row in _raising(truth, "attributes")]
    said = "; ".join([*found, *alone]) or "nothing"
    return f"Measured truth ({case.kind}): what raises {case.label}, in logits: {said}."


def _raising(truth: JsonObject, part: str) -> list[JsonObject]:
    rows = truth.get(part, ())
    return [row for row in rows if role_of_effect(row["effect"], row.get("interval")) == "spurious"]


def _value(concept: str) -> str:
    return concept.partition(":")[2]


def summary(explanation: "Explanation") -> str:
    """Return one line: target, nearest words, rates of agreement, and time."""
    from diffexplain_fast.number_texts import share_text
    from diffexplain_fast.report.explanation import describe_outcome, describe_steps, nearest_words
    from diffexplain_fast.targets.outputs import REGRESSION

    about = f"{explanation.settings.get('classifier', 'classifier')}, {explanation.target}"
    parts = [f"{about}: {nearest_words(explanation)}"]
    for name, score in explanation.activation.items():
        if score.rate is not None and name != "train":
            prompt = "pictures of the explanation" if name == "held_out" else "pictures of the class name"
            parts.append(f"{prompt} recognised {share_text(score.rate)} of {score.n}")
    if explanation.output == REGRESSION:
        parts.append(describe_outcome(explanation).removesuffix("."))
    return f"{'; '.join(parts)}. {describe_steps(explanation)}"
