"""Searches of an audit, kept in the folder of its pool: each classifier has its own."""

from pathlib import Path

import torch
from torch import Tensor

import diffexplain_fast as dx
from diffexplain_fast.api.found import kept_in
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd

QUICK = {
    "iterations": 1,
    "restarts": 0,
    "candidates": ["red"],
    "n_tokens": 1,
    "n_images": 1,
    "n_score": 2,
    "n_validation": 1,
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "progress": False,
}


def brighter(factor: float) -> dx.Classifier:
    """Return a function as a classifier, whose name says nothing of its factor."""

    def net(pixels: Tensor) -> Tensor:
        return torch.stack([pixels.mean((1, 2, 3)) * factor, pixels[:, 0].mean((1, 2)) * 5], 1)

    return dx.Classifier(net, labels=["u", "v"], output="softmax")


def test_functions_of_the_same_name_have_folders_of_their_own(tmp_path: Path) -> None:
    pipeline, found = load_pipeline(tiny_sd()), {}
    for factor in (3.0, -9.0, 3.0, -9.0):
        with dx.Explainer(pipeline, brighter(factor), seed=0) as explainer:

            def search(target: object, checkpoint: Path, explainer: dx.Explainer = explainer) -> dx.Explanation:
                return explainer.explain(target, checkpoint=checkpoint, **QUICK)

            one = kept_in(tmp_path, explainer.classifier, explainer._sampler(2, 1.0), search)("u", "u")
        logit = one.activation["held_out"].mean_logit
        assert found.setdefault(factor, logit) == logit
    assert len(found) == len({*found.values()}) == len([*(tmp_path / "searches").iterdir()]) == 2
