"""``diffexplain-fast demo``: explain classifiers whose shortcuts are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from diffexplain_fast.cli.output import check_folder
from diffexplain_fast.runs.bars import ProgressBars

if TYPE_CHECKING:
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.results.explanation import Explanation


class _Bounds(TypedDict):
    iterations: int
    restarts: int
    n_validation: int
    n_score: int


CLASSIFIERS = ("companion", "background")
_CLASSES = 3
_QUICK = _Bounds(iterations=20, restarts=0, n_validation=8, n_score=16)
"""Bounds that keep the demo under three minutes on two cores."""
_REPORT = "report.html"
_TITLE = "What do these classifiers really look at?"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for report.html and the explanations.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Every random number follows from it.")] = 0,
) -> None:
    """First run: explain two shipped classifiers.

    Explains three classes of each and writes a report. All models ship with the package: it needs no download and no
    GPU. One classifier was trained to recognise some classes by a second object in the picture, the other by the
    background. The method does not know which; the report shows its findings beside the measured truth.
    """
    from diffexplain_fast.api.explainer import Explainer
    from diffexplain_fast.models.loading import load_pipeline
    from diffexplain_fast.recipe.making import load_classifier
    from diffexplain_fast.report.explanation import render_report

    classifiers = {name: load_classifier(name) for name in CLASSIFIERS}
    chosen = {name: chosen_classes(classifier) for name, classifier in classifiers.items()}
    check_folder(out, [_REPORT], [f"{name}-{label}" for name, labels in chosen.items() for label in labels])
    pipeline = load_pipeline("tinyworld")
    explanations: list[Explanation] = []
    for name, classifier in classifiers.items():
        with Explainer(pipeline, classifier, seed=seed) as explainer:
            for label in chosen[name]:
                with ProgressBars(f"{len(explanations) + 1}/{_CLASSES * len(CLASSIFIERS)} {name}, {label}") as bars:
                    explanation = explainer.explain(label, callback=bars, **_QUICK)
                explanation.save(out / f"{name}-{label}")
                explanations.append(explanation)
                print(summary(explanation))
    print(f"\nOpen {render_report(explanations, out / _REPORT, title=_TITLE)}")


def chosen_classes(classifier: "Classifier", count: int = _CLASSES) -> list[str]:
    """Return the classes with the strongest shortcuts according to the truth, which the method never reads."""
    truth = classifier.truth or {}
    labels = classifier.labels or ()

    def strength(label: str) -> float:
        rows = truth.get(label, {}).get("attributes", ())
        return max((row["effect"] for row in rows if row["role"] == "spurious"), default=0.0)

    return sorted(labels, key=strength, reverse=True)[:count]


def summary(explanation: "Explanation") -> str:
    """Return one line: target, nearest words, rates of agreement, and time."""
    from diffexplain_fast.report.explanation import describe_outcome, describe_steps
    from diffexplain_fast.targets.outputs import REGRESSION

    words = " ".join(token[0].word for token in explanation.words if token)
    parts = [f"{explanation.settings.get('classifier', 'classifier')}, {explanation.target}: {words}"]
    for name, score in explanation.activation.items():
        if score.rate is not None and name != "train":
            prompt = "pictures of the explanation" if name == "held_out" else "pictures of the class name"
            parts.append(f"{prompt} recognised {score.rate:.0%} of {score.n}")
    if explanation.output == REGRESSION:
        parts.append(describe_outcome(explanation).removesuffix("."))
    return f"{'; '.join(parts)}. {describe_steps(explanation)}"
