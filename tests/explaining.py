"""Explanations of tiny models that take a fraction of a second: shared by the tests of the API and of the methods."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.results.named import Named
from tests.tiny import LABELS, TinyClassifier, tiny_classifier, tiny_sd

QUICK: dict[str, Any] = {
    "iterations": 4,
    "num_inference_steps": 2,
    "n_tokens": 2,
    "n_images": 2,
    "n_score": 4,
    "n_validation": 2,
    "validate_every": 2,
    "checkpoint_every": 1,
    "start": "random",
    "restarts": 0,
    "stop_probability": None,
}


NAMED = Named(
    words=["blue", "desert"],
    probability=0.82,
    prompt_probability=0.92,
    pictures=12,
    without={"blue": 0.03, "desert": 0.45},
    tried=["blue", "desert"],
    shown=["blue", "desert", "cold"],
    rows=1300,
)
"""What came of naming a prompt, made up."""


class FailingClassifier(nn.Module):
    """The tiny classifier; at one of its calls with gradients, a given event replaces the answer."""

    def __init__(self, call: int, happen: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model: TinyClassifier = tiny_classifier()
        self.call, self.happen, self.calls = call, happen, 0

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        logits = self.model(pixels)
        if pixels.requires_grad:
            self.calls += 1
            if self.calls == self.call:
                return self.happen(logits)
        return logits


def quick_explainer(module: nn.Module | None = None, pipe: Any = None, **setup: Any) -> Explainer:
    """Return an explainer of the tiny classifier, or of ``module``, with the tiny pipeline."""
    classifier = Classifier(tiny_classifier() if module is None else module, labels=LABELS)
    return Explainer(tiny_sd() if pipe is None else pipe, classifier, **setup)


def quick_explanation(module: nn.Module | None = None, target: Any = "boat", **options: Any) -> Explanation:
    """Return a short explanation."""
    with quick_explainer(module) as explainer:
        return explainer.explain(target, **{**QUICK, **options})


def assert_same_result(first: Explanation, second: Explanation) -> None:
    """Assert that two explanations are equal to the last bit, except for times."""
    assert torch.equal(first.prompt_embeds, second.prompt_embeds)
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in second.images]
    assert first.activation == second.activation
    assert first.words == second.words
    untimed = [[(i.iteration, i.loss, i.logit, i.gradient_norm) for i in e.history] for e in (first, second)]
    assert untimed[0] == untimed[1]
    assert first.settings["validations"] == second.settings["validations"]
