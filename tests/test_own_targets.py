"""Targets of the user: a function, and a class with only the methods that it needs."""

from typing import Any

import pytest
import torch
from torch import Tensor

import diffexplain_fast as dx
from diffexplain_fast.targets import ClassLogit, Target, as_target
from tests.explaining import QUICK, quick_explainer, quick_explanation
from tests.tiny import tiny_classifier


def margin(response: dx.Response) -> Tensor:
    """Return the difference of the first two logits."""
    return response.logits[:, 0] - response.logits[:, 1]


class Margin(dx.Target):
    """The same target as a class."""

    def __call__(self, response: dx.Response) -> Tensor:
        """Return the score [B]."""
        return margin(response)


def test_a_function_and_a_class_score_as_the_sum_of_targets_does() -> None:
    by_function, by_class, by_sum = (
        quick_explanation(target=target) for target in (margin, Margin(), ClassLogit(0) - ClassLogit(1))
    )
    for own in (by_function, by_class):
        assert torch.allclose(own.prompt_embeds, by_sum.prompt_embeds, atol=1e-5)
        losses = [[item.loss for item in found.history] for found in (own, by_sum)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert own.activation["held_out"].rate is None and own.label is None
    assert (by_function.target, by_class.target) == ("margin", "Margin")


def test_functions_and_classes_add_and_scale() -> None:
    response = dx.Response(torch.rand(2, 3, 4, 4), torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
    target = (Margin() + as_target(margin)) / 4
    assert target(response).tolist() == [1.0, -1.0]
    assert target.describe() == "0.25 * Margin + 0.25 * margin"
    assert (ClassLogit(0) + Margin()).label == 0 and Margin().label is None


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda response: 3.0, TypeError, "target: wanted one that returns a tensor of scores"),
        (lambda response: response.logits, ValueError, r"target: wanted floating point scores \[\d\], got \[\d, 4\]"),
        (lambda response: response.logits.argmax(1), ValueError, r"in torch\.int64"),
        (lambda response: response.logits[:, 0].detach(), ValueError, "a score differentiable in the pixels"),
    ],
)
def test_an_answer_that_is_not_a_score_is_named(answer: Any, error: type[Exception], message: str) -> None:
    with quick_explainer() as explainer, pytest.raises(error, match=message):
        explainer.explain(answer, **QUICK)


@pytest.mark.parametrize("x", [Margin, tiny_classifier(), dx.Classifier(tiny_classifier())], ids=lambda x: str(type(x)))
def test_a_value_that_is_not_a_function_of_a_response_is_refused(x: Any) -> None:
    with pytest.raises(TypeError, match="target: wanted a class index, a label or a target, already created"):
        as_target(x)


def test_a_class_without_a_score_says_so() -> None:
    with pytest.raises(NotImplementedError, match="wanted a __call__"):
        Target()(dx.Response(torch.rand(1, 3, 4, 4), torch.zeros(1, 2)))


@pytest.mark.parametrize("divisor", [0, float("inf"), float("nan")])
def test_divisors_are_finite_and_not_zero(divisor: float) -> None:
    with pytest.raises(ValueError, match="divisor of a target: wanted a finite number that is not 0"):
        ClassLogit(0) / divisor


@pytest.mark.parametrize("divisor", ["2", True, None, ClassLogit(0)])
def test_divisors_are_numbers(divisor: Any) -> None:
    with pytest.raises(TypeError):
        ClassLogit(0) / divisor
