"""The identity of a run in a checkpoint: answers to fixed pictures distinguish runs of equal names and hashes."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import AnotherRunError
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.identity import answers_of, identity_of, pipeline_identity
from diffexplain_fast.evidence.pool import Pool, pool_name
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.runs.checkpoint import Answers
from diffexplain_fast.targets import Disagreement, as_target
from tests.explaining import QUICK, quick_explainer
from tests.tiny import LABELS, TinyClassifier, tiny_classifier, tiny_sd, tiny_sdxl

WEIGHTS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(tiny_sd())


def problem(pipeline: Pipeline, classifier: Classifier, target: Any = "boat") -> Problem:
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=1, guidance_scale=1.0)
    return Problem(pipeline, sampler, classifier, as_target(target).bind(classifier), "", 0)


def function(sign: float) -> Classifier:
    return Classifier(lambda pixels: sign * pixels.mean((2, 3)) @ WEIGHTS, labels=LABELS)


def preprocessed(shift: float) -> Classifier:
    return Classifier(tiny_classifier(), lambda pixels: pixels - shift, LABELS)


class Scaled(TinyClassifier):
    """The tiny classifier with a plain attribute that its answer depends on."""

    scale = 1.0

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        return self.scale * super().forward(pixels)


def with_attribute(scale: float) -> Classifier:
    model = Scaled(4)
    model.load_state_dict(tiny_classifier().state_dict())
    model.scale = scale
    return Classifier(model, labels=LABELS)


@pytest.mark.parametrize("make", [function, preprocessed, with_attribute])
def test_a_change_that_no_fingerprint_covers_changes_the_answers(pipeline: Pipeline, make: Callable) -> None:
    first, other = problem(pipeline, make(1.0)), problem(pipeline, make(0.9))
    assert identity_of(first) == identity_of(other)
    assert answers_of(first).agree(answers_of(problem(pipeline, make(1.0))).values)
    assert not answers_of(first).agree(answers_of(other).values)


def test_the_other_classifier_of_a_disagreement_is_told_apart(pipeline: Pipeline) -> None:
    first, other = (problem(pipeline, function(1.0), Disagreement(function(sign), "boat")) for sign in (1.0, -1.0))
    assert identity_of(first) == identity_of(other)
    assert not answers_of(first).agree(answers_of(other).values)


def test_rounding_does_not_make_another_classifier(pipeline: Pipeline) -> None:
    single = answers_of(problem(pipeline, Classifier(tiny_classifier(), labels=LABELS)))
    double = answers_of(problem(pipeline, Classifier(tiny_classifier().double(), labels=LABELS)))
    half = answers_of(problem(pipeline, Classifier(tiny_classifier().bfloat16(), labels=LABELS)))
    assert single.values != double.values
    assert single.agree(double.values) and double.agree(single.values) and half.agree(single.values)
    assert single.slack < 0.01 * max(map(abs, single.values))


def test_answers_that_are_not_finite_are_compared_too() -> None:
    answers = Answers([float("nan"), float("inf"), 1.0], 0.1)
    assert answers.agree([float("nan"), float("inf"), 1.05])
    assert not answers.agree([0.0, float("inf"), 1.0]) and not answers.agree([float("nan"), 5.0, 1.0])
    assert not any(answers.agree(other) for other in ([], None, "abc", ["a", "b", "c"], [None, 2, 3]))
    assert not answers.agree([float("nan"), float("inf")])


def test_asking_for_answers_changes_nothing(pipeline: Pipeline) -> None:
    model = tiny_classifier().train()
    drawn = Classifier(nn.Sequential(model, nn.Dropout()), lambda pixels: pixels + torch.randn(()), LABELS)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first, second = (answers_of(problem(pipeline, drawn)) for _ in range(2))
    assert first == second, "a classifier that draws random numbers draws the same ones"
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert not any(part._forward_hooks for part in model.modules())


def test_a_checkpoint_of_another_function_of_the_same_name_is_refused_and_kept(tmp_path: Path) -> None:
    options = {**QUICK, "iterations": 1, "checkpoint": tmp_path}
    with Explainer(tiny_sd(), function(1.0)) as explainer:
        explainer.explain("boat", **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        Explainer(tiny_sd(), function(-1.0)) as explainer,
        pytest.raises(ValueError, match=r"^checkpoint: wanted a run of the same configuration .* preprocess or the"),
    ):
        explainer.explain("boat", **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with Explainer(tiny_sd(), function(1.0)) as explainer:
        explainer.explain("boat", **options)


def test_a_pipeline_is_its_weights_noise_levels_and_size_of_latents(pipeline: Pipeline) -> None:
    pipe = tiny_sd()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, trained_betas=[0.001, 0.01])
    usual, other = (identity_of(problem(one, function(1.0))) for one in (pipeline, load_pipeline(pipe)))
    assert {name for name in usual if usual[name] != other[name]} == {"noise"} and {"noise", "latents"} <= {*usual}
    assert other["noise"]["trained_betas"] == [0.001, 0.01] and json.loads(json.dumps(other)) == other


def test_a_checkpoint_of_another_scale_of_latents_or_vocabulary_is_refused(tmp_path: Path) -> None:
    options = {**QUICK, "iterations": 1, "checkpoint": tmp_path}
    with Explainer(tiny_sd(), function(1.0)) as explainer:
        explainer.explain("boat", **options)
    pipe = tiny_sd()
    pipe.vae.register_to_config(scaling_factor=0.25)
    pipe.tokenizer.add_tokens(["lorikeet"])
    with (
        Explainer(pipe, function(1.0)) as explainer,
        pytest.raises(ValueError, match=r"^checkpoint: wanted a run of the same .* tokenizers: .*; vae: "),
    ):
        explainer.explain("boat", **options)


def test_the_scale_of_latents_is_that_which_the_pipeline_reads() -> None:
    options = {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]}
    for make, read in ((tiny_sd, {}), (tiny_sdxl, options)):
        pipe = make()
        pipe.vae.register_to_config(scaling_factor=0.5, shift_factor=0.25, **options)
        found = pipeline_identity(load_pipeline(pipe), 3.0)["vae"]
        assert found == {"scaling_factor": 0.5, "shift_factor": 0.0, **read} and json.loads(json.dumps(found)) == found


def test_a_checkpoint_of_equal_weights_that_are_used_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    options = {**QUICK, "iterations": 1, "checkpoint": tmp_path}
    with Explainer(tiny_sd(), function(1.0)) as explainer:
        explainer.explain("boat", **options)
    pipe = tiny_sd()
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    pipe.vae.enable_tiling()
    named = r"^checkpoint: wanted a run of the same configuration .*; unet_settings: [^;]*; vae_settings: [^;]*$"
    with Explainer(pipe, function(1.0)) as explainer, pytest.raises(AnotherRunError, match=named):
        explainer.explain("boat", **options)


def test_a_checkpoint_of_a_version_without_settings_goes_on(tmp_path: Path) -> None:
    options = {**QUICK, "iterations": 1, "checkpoint": tmp_path}
    with Explainer(tiny_sd(), function(1.0)) as explainer:
        explainer.explain("boat", **options)
        latest = json.loads((tmp_path / "LATEST.json").read_text())
        kept = {name: value for name, value in latest["config"].items() if not name.endswith("_settings")}
        assert len(kept) == len(latest["config"]) - 3
        (tmp_path / "LATEST.json").write_text(json.dumps(latest | {"config": kept}))
        explainer.explain("boat", **options)


def converting(convert: Callable[[str, Any], str]) -> Pipeline:
    pipe = tiny_sd()
    pipe.maybe_convert_prompt = convert
    return load_pipeline(pipe)


def test_a_function_of_prompts_of_the_users_own_is_told_by_what_it_draws(pipeline: Pipeline) -> None:
    plain = pipeline_identity(pipeline, 1.0)
    assert "prompts_rewritten" not in plain, "diffusers' own function changes nothing here"
    assert pipeline_identity(converting(lambda text, _: text), 1.0) == plain
    word = pipeline.words()[0]
    one, same, other, styled = (
        pipeline_identity(converting(convert), 1.0)
        for convert in (
            lambda text, _: text.replace(word, f"{word} {word}"),
            lambda text, tokenizer: f"{word} {word}".join(text.split(word)),
            lambda text, _: text.replace(word, ""),
            lambda text, _: f"{text}, in oil",
        )
    )
    assert one == same and all(each != plain for each in (one, other, styled)) and one != other != styled != one


class Logging(AttnProcessor2_0):
    """A processor that counts its calls, and computes what diffusers' own does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __call__(self, *given: Any, **options: Any) -> Tensor:
        """Return the usual output."""
        self.calls += 1
        return super().__call__(*given, **options)


def logging() -> Any:
    pipe = tiny_sd()
    pipe.unet.set_attn_processor(Logging())
    return pipe


def drawn(pipe: Any) -> Drawing:
    loaded = load_pipeline(pipe)
    return Drawing(loaded, DifferentiableSampler.from_pipe(loaded, num_inference_steps=2, guidance_scale=1.0), 0)


def test_a_pool_is_the_same_after_a_processor_counted_its_calls(tmp_path: Path) -> None:
    pipe = logging()
    drawing = drawn(pipe)
    name = pool_name(drawing)
    pictures = torch.cat(list(Pool(tmp_path, drawing).pictures("context", ("a boat",), 0, 1)))
    again = Pool(tmp_path, drawn(pipe))
    assert pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.processor.calls > 0
    assert pool_name(drawing) == pool_name(drawn(pipe)) == name
    assert torch.equal(torch.cat(list(again.pictures("context", ("a boat",), 0, 1))), pictures) and again.drawn == 0
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    assert pool_name(drawing) != name


def test_the_second_of_two_explanations_resumes_with_a_processor_that_counts(tmp_path: Path) -> None:
    phases: list[str] = []

    def stop(event: Any) -> None:
        phases.append(event.phase)
        if event.phase == "optimise" and "evaluate" in phases:
            raise InterruptedError

    with quick_explainer(pipe=logging()) as explainer, pytest.raises(InterruptedError):
        explainer.explain("boat", checkpoint=tmp_path, modes=2, callback=stop, **QUICK)
    pipe = logging()
    for _ in range(2):  # resumed, and read again in the same session
        with quick_explainer(pipe=pipe) as explainer:
            assert explainer.explain("boat", checkpoint=tmp_path, modes=2, **QUICK)
