"""Values show themselves on one screen of a terminal, and escaped in a notebook."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.classifier import Classifier
from tests.report.pages import Page, audit_example, example
from tests.tiny import LABELS, tiny_classifier, tiny_sd

ATTACK = '<script>alert("x")</script>'


def sampler_after_a_call() -> DifferentiableSampler:
    """Return a sampler that has planned a call."""
    pipe = tiny_sd()
    sampler = DifferentiableSampler.from_pipe(pipe, num_inference_steps=2, guidance_scale=1.0)
    width = pipe.unet.config.cross_attention_dim
    sampler(torch.zeros(1, 4, width, requires_grad=True), generator=torch.Generator().manual_seed(0))
    return sampler


SHOWN: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "explanation": (example, ["ClassProbability(boat)", "30 of 32 (94 %)", "“snow” is a shortcut", "snow 0.91"]),
    "audit": (audit_example, ["Audit of tiny: 3 findings in 19 rows", "boat answers to snow", "did not suffice"]),
    "classifier": (
        lambda: Classifier(tiny_classifier(), labels=LABELS, name="mine"),
        ["Classifier mine", "TinyClassifier on cpu", f"4: {', '.join(LABELS)}", "output"],
    ),
    "classifier of many": (
        lambda: Classifier(tiny_classifier(), labels=[f"class {i} {ATTACK}" for i in range(1000)], name=ATTACK),
        ["1000: class 0"],
    ),
    "sampler": (sampler_after_a_call, ["DifferentiableSampler", "num inference steps  2", "plan", "MiB"]),
    "plan": (lambda: Plan(("lean", "whole"), {"weights": 2**20}, 2**21, None, 0.5, ATTACK), ["1.0 MiB", "none"]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_value_fits_on_one_screen(name: str) -> None:
    make, words = SHOWN[name]
    value = make()
    text = repr(value)
    assert all(word in text for word in words), text
    assert len(text) < 2000 and text.count("\n") < 25
    page = Page(value._repr_html_())
    assert "script" not in page.tags
    title = text.partition("\n")[0]
    assert title in page.text


def test_a_summary_names_words_steps_and_time() -> None:
    found = example(settings={"classifier": "c", "seconds": {"all": 12.3}})
    assert repr(found) == found.summary()
    assert "4 steps of the gradient, from words that were tried first. It took 12 s." in found.summary()
    assert found._repr_html_().count("<img") == 2


def test_a_value_without_numbers_shows_itself_too() -> None:
    bare = example(images=[], activation={}, words=[], history=[], settings={}, truth=None)
    assert "no scores" in repr(bare) and "<img" not in bare._repr_html_()
