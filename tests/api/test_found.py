"""Searches of an audit, kept in the folder of its pool: each classifier has its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import diffexplain_fast as dx
from diffexplain_fast.api.found import found_by, kept_in
from diffexplain_fast.evidence.readout import readout_of
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


def test_the_tokens_of_an_explanation_follow_its_prefix() -> None:
    pipeline = load_pipeline(tiny_sd())
    with dx.Explainer(pipeline, brighter(3.0), seed=0) as explainer:
        one = explainer.explain("u", prefix="a photo of", **QUICK)
        readout = readout_of(explainer.classifier, ["v", "u"], torch.rand(1, 3, *pipeline.image_size))
        (found,) = found_by({"u": one}, readout, pipeline).values()
        assert found.words[:3] == ["a", "photo", "of"] and len(found.words) == len(found.soft) == 4
        asked, whole = pipeline.encode_soft(one.prompt_embeds, prefix="a photo of"), pipeline.encode_soft(found.soft)
        assert torch.allclose(asked.prompt_embeds, whole.prompt_embeds)
        one.settings["options"]["prefix"] = "\N{SNOWMAN}"
        with pytest.raises(ValueError, match="explain, u: wanted a prefix whose every character the tokenizer"):
            found_by({"u": one}, readout, pipeline)
