"""What may be sent to another process or copied, and what says that it cannot."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.classifier import Classifier
from tests.explaining import QUICK, assert_same_result, quick_explainer, quick_explanation
from tests.tiny import LABELS, tiny_classifier, tiny_sd

WAYS = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", [*WAYS.values(), copy.copy], ids=[*WAYS, "copy"])
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_a_sampler_says_that_it_is_made_where_it_is_used(way: Callable[[Any], Any], backend: str) -> None:
    sampler = DifferentiableSampler.from_pipe(tiny_sd(), num_inference_steps=1, backend=backend)
    with pytest.raises(
        TypeError, match="sampler: wanted a sampler made where it is used, from unet, vae and scheduler"
    ):
        way(sampler)


@pytest.mark.parametrize("way", WAYS)
def test_an_explainer_and_its_results_are_copied(way: str) -> None:
    torch.manual_seed(0)
    explainer, expected = quick_explainer(), quick_explanation(iterations=1)
    explainer.explain("boat", **{**QUICK, "iterations": 1})  # so that it holds all that it makes for itself
    assert_same_result(WAYS[way](explainer).explain("boat", **{**QUICK, "iterations": 1}), expected)
    assert_same_result(WAYS[way](expected), expected)


@pytest.mark.parametrize("way", WAYS)
def test_a_plan_and_a_classifier_are_copied(way: str) -> None:
    pipe = tiny_sd()
    sampler = DifferentiableSampler.from_pipe(pipe, num_inference_steps=1, guidance_scale=1.0, backend="fast")
    sampler(torch.randn(1, 7, pipe.unet.config.cross_attention_dim).requires_grad_())
    assert sampler.plan is not None and WAYS[way](sampler.plan) == sampler.plan
    classifier = Classifier(tiny_classifier(), labels=LABELS, truth={"boat": {"a": 1.0}})
    copied, pixels = WAYS[way](classifier), torch.rand(1, 3, 16, 16)
    assert torch.equal(copied(pixels), classifier(pixels)) and copied.truth == classifier.truth
