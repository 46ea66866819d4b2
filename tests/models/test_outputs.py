"""Kinds of output: a linear read-out of known pixels reports the values of its definition."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.report.explanation import describe_outcome
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.stats.intervals import mean_interval
from diffexplain_fast.targets import ClassLogit, ClassProbability, Disagreement
from tests.explaining import QUICK
from tests.tiny import tiny_sd

COLOURS = ("red", "green", "blue")


class ReadOut(nn.Module):
    """Numbers from the mean colour [B, 3] of pictures."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.read = nn.Parameter(torch.ones(3)), read

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the numbers [B, C]."""
        return self.read(pixels.mean((2, 3)) * self.weight)


def logits(colour: Tensor) -> Tensor:
    return 20 * colour - 9


def one(colour: Tensor) -> Tensor:
    return logits(colour)[:, :1]


def softmax(colour: Tensor) -> Tensor:
    return logits(colour).softmax(1)


def sigmoid(colour: Tensor) -> Tensor:
    return logits(colour).sigmoid()


def by_hand(colour: Tensor) -> Tensor:
    return 1 / (1 + (-logits(colour)).exp())


def pictures() -> Tensor:
    """Return four pictures of one colour each."""
    colours = [[0.7, 0.3, 0.5], [0.3, 0.6, 0.5], [0.5, 0.5, 0.9], [0.2, 0.1, 0.1]]
    return torch.tensor(colours)[:, :, None, None].expand(4, 3, 4, 4).contiguous()


def colours() -> Tensor:
    return pictures().mean((2, 3))


def classifier(read: Callable, labels: Any = COLOURS, **options: Any) -> Classifier:
    return Classifier(ReadOut(read).eval(), labels=labels, **options)


def probability(found: Classifier, label: Any) -> Tensor:
    return ClassProbability(label).bind(found)(found.respond(pictures())).exp()


@pytest.mark.parametrize(
    ("read", "output", "truth"),
    [
        (logits, "softmax", softmax),
        (logits, "sigmoid", sigmoid),
        (softmax, "probabilities", softmax),
        (sigmoid, "independent probabilities", sigmoid),
    ],
)
@pytest.mark.parametrize("label", COLOURS)
def test_a_probability_follows_its_definition(read: Callable, output: str, truth: Callable, label: str) -> None:
    found = classifier(read, output=output)
    assert torch.allclose(probability(found, label), truth(colours())[:, COLOURS.index(label)], rtol=1e-5)
    assert found.output == output


@pytest.mark.parametrize(
    ("read", "output", "said"),
    [
        (softmax, "probabilities", "add up to one, as after a softmax"),
        (sigmoid, "independent probabilities", "each class for itself, as after a sigmoid"),
        (by_hand, "independent probabilities", "each class for itself, as after a sigmoid"),
    ],
)
def test_a_head_that_ends_in_probabilities_is_detected_with_a_warning(read: Callable, output: str, said: str) -> None:
    found = classifier(read)
    with pytest.warns(UserWarning, match=rf'output: .*ReadOut.*{said}.*output="{output}" says so') as told:
        assert torch.allclose(probability(found, "red"), read(colours())[:, 0], rtol=1e-5)
    assert [one.filename for one in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found(pictures())  # once is enough


@pytest.mark.parametrize(
    "read",
    [
        logits,
        lambda c: c @ torch.eye(3),
        lambda c: 0.02 * c + 0.4,
        lambda c: logits(c).log_softmax(1),
        lambda c: 0 * c,
    ],
    ids=["logits", "linear", "small", "log_softmax", "zero"],
)
def test_logits_are_not_mistaken_for_probabilities(read: Callable) -> None:
    found = classifier(read)
    assert torch.allclose(probability(found, "red"), read(colours()).softmax(1)[:, 0], rtol=1e-5)
    assert found.output == "softmax"


def test_one_logit_is_a_sigmoid_of_the_first_label() -> None:
    found = classifier(one, labels=["tumour"])
    with pytest.warns(UserWarning, match=r"one logit of ReadOut .* log-odds of label 0, 'tumour'; output=\"sigmoid\""):
        assert torch.allclose(probability(found, "tumour"), sigmoid(colours())[:, 0], rtol=1e-5)
    x = pictures().requires_grad_()
    score = ClassProbability(0).bind(found)(found.respond(x))
    assert torch.autograd.grad(score.sum(), x)[0][:, 0].abs().min() > 0, "a sure answer still has a slope"


def test_a_second_label_names_the_opposite() -> None:
    with pytest.warns(UserWarning, match="label 0, 'yes', and label 1, 'no', for its opposite"):
        found = classifier(one, labels=["yes", "no"])
        assert torch.allclose(probability(found, "no"), 1 - sigmoid(colours())[:, 0], rtol=1e-5)
    assert torch.equal(found(pictures())[:, 1], -found(pictures())[:, 0])


def test_one_probability_has_an_opposite_too() -> None:
    found = classifier(lambda c: sigmoid(c)[:, :1], labels=["yes", "no"], output="independent probabilities")
    assert torch.allclose(probability(found, "no"), 1 - sigmoid(colours())[:, 0], rtol=1e-4)


def test_one_logit_between_0_and_1_is_not_mistaken_for_a_probability() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(3), nn.Linear(3, 1))
    nn.init.constant_(head[3].weight, 0.01)
    nn.init.constant_(head[3].bias, 0.4)
    found = Classifier(head.eval())
    with pytest.warns(UserWarning, match="log-odds of its only class"):
        assert probability(found, 0)[0] == pytest.approx(1 / (1 + math.exp(-0.4)), rel=1e-3)


class Configured(ReadOut):
    """A read-out with the configuration of a transformers model."""

    def __init__(self, read: Callable, problem_type: str | None) -> None:
        super().__init__(read)
        self.config = type("Config", (), {"problem_type": problem_type})()


def test_the_argument_goes_before_the_models_problem_type() -> None:
    multi = Configured(logits, "multi_label_classification")
    assert torch.allclose(probability(Classifier(multi), 0), sigmoid(colours())[:, 0], rtol=1e-5)
    assert torch.allclose(probability(Classifier(multi, output="softmax"), 0), softmax(colours())[:, 0], rtol=1e-5)
    assert Classifier(Configured(one, "regression")).output == "regression"
    assert Classifier(Configured(logits, "single_label_classification")).output == "softmax"
    assert Classifier(Configured(logits, None)).output is None
    with pytest.raises(ValueError, match=r"output: wanted .* got 'segmentation'"):
        Classifier(Configured(logits, "segmentation"))


@pytest.mark.parametrize(
    ("read", "labels", "output", "message"),
    [
        (
            logits,
            COLOURS,
            "probabilities",
            r'output: wanted probabilities from 0 to 1 for "probabilities", got .* -9 to 11',
        ),
        (sigmoid, COLOURS, "probabilities", "add up to one .* got sums of"),
        (logits, COLOURS, "independent probabilities", "probabilities from 0 to 1"),
        (one, ["a"], "softmax", 'for a model of one output, got "softmax"'),
        (one, ["a", "b"], "regression", "labels: wanted one for each of the 1 outputs, got 2 labels"),
        (logits, ["a", "b"], "sigmoid", "labels: wanted one for each of the 3 logits, got 2 labels"),
    ],
)
def test_an_output_that_contradicts_the_answers_is_refused(
    read: Callable, labels: Any, output: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(read, labels=labels, output=output)(pictures())


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"output: wanted .softmax. or .* got 'logits'"):
        classifier(logits, output="logits")
    with pytest.raises(TypeError, match=r"output: wanted .* got int"):
        classifier(logits, output=3)  # type: ignore[arg-type]


def test_a_regression_has_no_probability() -> None:
    age = classifier(one, labels=["age"], output="regression")
    for target in (ClassProbability("age"), Disagreement(age, "age"), ClassLogit("age") + ClassProbability(0)):
        with pytest.raises(ValueError, match="target: wanted a target with a meaning for a regression"):
            target.bind(age)


def explained(found: Classifier, target: Any) -> Explanation:
    with Explainer(tiny_sd(), found) as explainer:
        return explainer.explain(target, **QUICK)


def shown_colours(explanation: Explanation) -> Tensor:
    """Return the mean colours of all scored held-out pictures, rounded to eight bits."""
    return torch.stack([torch.from_numpy(np.array(image)).double().mean((0, 1)) / 255 for image in explanation.images])


@pytest.mark.parametrize(
    ("read", "labels", "output", "truth"),
    [
        (logits, COLOURS, "softmax", softmax),
        (logits, COLOURS, "sigmoid", sigmoid),
        (softmax, COLOURS, "probabilities", softmax),
        (sigmoid, COLOURS, "independent probabilities", sigmoid),
        (one, ["red"], "sigmoid", sigmoid),
    ],
)
def test_an_explanation_reports_what_its_pictures_give(
    read: Callable, labels: Any, output: str, truth: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUICK, "n_images", QUICK["n_score"])
    found = explained(classifier(read, labels=labels, output=output), "red")
    score, p = found.activation["held_out"], truth(shown_colours(found))
    hits = p.argmax(1) == 0 if truth is softmax else p[:, 0] > 0.5
    assert score.mean_probability == pytest.approx(float(p[:, 0].mean()), abs=0.02)
    assert score.rate == pytest.approx(float(hits.double().mean()))
    assert found.output == output
    words = "have a probability above 0.5 of being red" if truth is sigmoid else "are classified as red"
    assert f"{round(score.rate * 4)} of 4 pictures from unseen draws {words}" in describe_outcome(found)


@pytest.mark.parametrize(
    ("target", "sign"), [("redness", 1), (ClassLogit(0), 1), (-ClassLogit("redness"), -1)], ids=str
)
def test_a_regression_reports_its_mean(target: Any, sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUICK, "n_images", QUICK["n_score"])
    found = explained(classifier(one, labels=["redness"], output="regression"), target)
    score, named = found.activation["held_out"], found.activation["class_name"]
    values = one(shown_colours(found))[:, 0]
    assert score.mean_logit == pytest.approx(float(values.mean()), abs=0.1)
    low, high = mean_interval(values) or (0, 0)
    assert score.interval == pytest.approx((low, high), abs=0.2)
    assert score.rate is None and score.mean_probability is None and found.label == "redness"
    usual = found.settings["to_be_beyond"]
    assert found.reached == (sign * score.mean_logit > sign * usual) and sign * usual >= sign * named.mean_logit
    words = describe_outcome(found)
    assert f"The mean redness is {score.mean_logit:.4g}" in words and ("above" if sign > 0 else "below") in words
    assert ("not reached" in words) == (not found.reached)


def test_a_regression_without_a_name_is_compared_with_nothing(tmp_path: Path) -> None:
    found = explained(classifier(one, labels=None, output="regression"), 0)
    loaded = Explanation.load(found.save(tmp_path / "number"))
    assert loaded.settings == found.settings and loaded.settings["to_be_beyond"] is None
    assert describe_outcome(loaded) == describe_outcome(found)
    assert found.reached is None and "class_name" not in found.activation and found.activation["held_out"].interval
    assert "without a name has no pictures" in describe_outcome(found)
