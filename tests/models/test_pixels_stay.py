"""The caller's pixels never change, even if a model, preprocess or target works in place."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import Disagreement, Response
from tests.explaining import QUICK, assert_same_result, quick_explainer
from tests.tiny import LABELS, TinyClassifier, tiny_classifier


def spoil(pixels: Tensor) -> Tensor:
    return pixels.sub_(0.5).div_(0.25)


class InPlace(TinyClassifier):
    """The tiny classifier of pixels that it normalises in place."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        return super().forward(spoil(pixels))


class Tidy(TinyClassifier):
    """The same classifier out of place."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        return super().forward((pixels - 0.5) / 0.25)


def made(kind: type[TinyClassifier]) -> TinyClassifier:
    model = kind(4).eval()
    model.load_state_dict(tiny_classifier().state_dict())
    return model


def hooked() -> nn.Module:
    model = tiny_classifier()
    model.register_forward_pre_hook(lambda module, args: (spoil(args[0]),))
    return model


WAYS: dict[str, Callable[[], Classifier]] = {
    "model": lambda: Classifier(made(InPlace), labels=LABELS),
    "preprocess": lambda: Classifier(tiny_classifier(), spoil, LABELS),
    "function": lambda: Classifier(lambda pixels: tiny_classifier()(spoil(pixels)), labels=LABELS),
    "hook": lambda: Classifier(hooked(), labels=LABELS),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gradient", [False, True])
def test_a_classifier_never_changes_the_callers_pixels(way: str, gradient: bool) -> None:
    classifier, pixels = WAYS[way](), torch.rand(2, 3, 8, 8)
    before = pixels.clone()
    response = classifier.respond(pixels.requires_grad_(gradient))
    assert torch.equal(pixels, before) and response.pixels is pixels
    expected = tiny_classifier()((before - 0.5) / 0.25)
    assert torch.allclose(response.logits, expected, atol=1e-5)


def test_the_other_classifier_of_a_disagreement_never_changes_pixels() -> None:
    classifier, other = Classifier(tiny_classifier(), labels=LABELS), WAYS["model"]()
    pixels = torch.rand(2, 3, 8, 8)
    before = pixels.clone()
    bound = Disagreement(other, "boat").bind(classifier)
    bound(classifier.respond(pixels))
    assert torch.equal(pixels, before)


def test_the_pictures_shown_are_those_that_were_drawn() -> None:
    found = []
    for kind in (Tidy, InPlace):
        with quick_explainer(made(kind)) as explainer:
            found.append(explainer.explain("boat", **QUICK))
    assert_same_result(*found)


def test_a_target_that_works_in_place_changes_neither_pictures_nor_rates() -> None:
    def tidy(response: Response) -> Tensor:
        return (response.logits * 2 - 1)[:, 0] + (response.pixels - 0.5).mean((1, 2, 3))

    def careless(response: Response) -> Tensor:
        return response.logits.mul_(2).sub_(1)[:, 0] + response.pixels.sub_(0.5).mean((1, 2, 3))

    with quick_explainer() as explainer:
        found = [explainer.explain(target, **QUICK) for target in (tidy, careless)]
    assert_same_result(*found)
