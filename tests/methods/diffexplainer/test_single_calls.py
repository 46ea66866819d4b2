"""Searches through single calls of the engine: with every pipeline, in autocast, with pictures of another search."""

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.explanation import Explanation
from tests.tiny import LABELS, tiny_classifier, tiny_sd, tiny_sdxl

WORDS = ["tree", "red", "blue", "boat", "fish", "house", "snow", "desert", "photo", "of", "the"]


class Sure(nn.Module):
    """Logits [B, 4] that name the first class in every picture, in a brighter one more surely."""

    def forward(self, pixels: Tensor) -> Tensor:
        first = 4 * (0.3 + pixels.mean((1, 2, 3)).clamp(0, 1))
        return torch.stack([first, *[torch.zeros_like(first)] * 3], 1)


def explained(explainer: Explainer, **options: object) -> Explanation:
    few = {"num_inference_steps": 2, "iterations": 1, "n_images": 1, "n_score": 2, "n_validation": 2, "n_tokens": 1}
    return explainer.explain(LABELS[0], guidance_scale=1.0, progress=False, **few, **options)


@pytest.mark.parametrize("make", [tiny_sd, pytest.param(tiny_sdxl, marks=pytest.mark.slow)])
def test_a_search_finds_the_same_by_both_backends(make) -> None:
    found = []
    for backend in ("fast", "reference"):
        explainer = Explainer(make(), Classifier(Sure(), labels=LABELS, output="softmax"), backend=backend)
        found.append(explained(explainer, restarts=1, start="gradient", stop_probability=None))
    fast, reference = found
    assert fast.named is not None and fast.named == reference.named
    assert torch.allclose(fast.prompt_embeds, reference.prompt_embeds, rtol=0, atol=1e-2)


def test_a_search_runs_inside_of_autocast() -> None:
    explainer = Explainer(tiny_sd(), Classifier(Sure(), labels=LABELS, output="softmax"), backend="fast")
    with torch.autocast("cpu", torch.bfloat16):
        assert explained(explainer, restarts=1, start="gradient", stop_probability=None).named is not None


@pytest.mark.parametrize("budgets", [(None, "90000 rows"), ("90000 rows", None)])
def test_pictures_of_words_serve_a_later_search_with_a_budget_or_without(
    budgets: tuple[str | None, str | None],
) -> None:
    explainer = Explainer(tiny_sd(), Classifier(tiny_classifier(), labels=LABELS))
    options = {"restarts": 0, "start": "screen", "candidates": WORDS}
    first, second = (explained(explainer, budget=budget, **options).settings["found"] for budget in budgets)
    assert first["words_drawn"] == second["words_drawn"] == len(WORDS)
