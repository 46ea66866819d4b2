"""What is read from a classifier's answers, and what changes none of them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.readout import readout_of
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassLogit, ClassProbability, Combination, Response
from tests.tiny import LABELS

PIXELS = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Sums(nn.Module):
    """Logits are sums over parts of a picture; a common one is added to all."""

    def __init__(self, common: float = 0.0) -> None:
        super().__init__()
        self.common = common

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean(1)[:, 0, :4] * 3 + self.common * pixels.mean((1, 2, 3))[:, None]


def values(targets: object, common: float = 0.0, output: str = "softmax") -> np.ndarray:
    """Return what is said of the pictures, [pictures, targets]."""
    classifier = Classifier(Sums(common), labels=LABELS, output=output)
    return readout_of(classifier, targets, PIXELS[:1])(PIXELS)[0]


FISH, BOAT = ClassLogit("fish"), ClassLogit("boat")


@pytest.mark.parametrize(
    "target",
    [
        FISH,
        -FISH,
        2 * FISH - BOAT,
        FISH + BOAT,
        FISH - BOAT,
        FISH + ClassProbability("boat"),
        Combination(((-0.5, FISH + BOAT),)),
        ClassProbability("fish"),
    ],
    ids=str,
)
def test_what_is_added_to_all_logits_changes_no_target(target: object) -> None:
    assert values([target], 40.0) == pytest.approx(values([target]), abs=1e-4)
    if target != FISH - BOAT:  # classes that are judged one by one are moved by it
        assert np.abs(values([target], 40.0, "sigmoid") - values([target], 0.0, "sigmoid")).max() > 0.1


def test_a_sum_has_the_values_of_its_classes() -> None:
    fish, boat, negative, both = values([FISH, BOAT, -FISH, 2 * FISH - BOAT], 40.0).T
    assert negative == pytest.approx(-fish) and both == pytest.approx(2 * fish - boat)


def test_a_log_probability_that_is_asked_for_is_read() -> None:
    classifier = Classifier(Sums(), labels=LABELS, output="softmax")
    readout = readout_of(classifier, ["fish", ClassProbability("fish")], PIXELS[:1])
    found, hits = readout(PIXELS)
    assert readout.names == ("fish", "ClassProbability(fish)") and readout.labels == ("fish", "fish")
    logits = Sums()(PIXELS).double()
    assert found[:, 0] == pytest.approx((logits[:, 1] - logits.mean(1)).numpy())
    assert found[:, 1] == pytest.approx(logits.log_softmax(1)[:, 1].numpy(), abs=1e-6)
    assert hits[:, 0].any() and np.array_equal(hits[:, 0], hits[:, 1]) and readout.logits.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_target_that_is_not_finite_is_named_at_the_first_batch(wrong: float) -> None:
    def brightness(response: Response) -> Tensor:
        score = response.pixels.mean((1, 2, 3))
        score[2:4] = wrong
        return score

    with pytest.raises(NonFiniteError, match=r"target: wanted finite scores of .*brightness, got NaN or inf in 2 of 6"):
        values(["fish", brightness])


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_pictures_are_answered_with_a_class_and_not_with_the_probability_of_it(output: str) -> None:
    targets = ["boat", ClassProbability("fish"), 2 * FISH - BOAT]
    found = readout_of(Classifier(Sums(), labels=LABELS, output=output), targets, PIXELS[:1])
    assert found.names[1] == "ClassProbability(fish)"
    assert [found.spoken(place) for place in range(3)] == ["boat", "fish", found.names[2]]
