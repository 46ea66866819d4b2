"""An explanation's pictures equal those of the pipeline's call, for every configuration and option."""

from typing import Any

import pytest
import torch

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.api.one_call import explain
from diffexplain_fast.evidence.identity import identity_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import as_target
from tests.engine.plain import make_scheduler, relative
from tests.explaining import QUICK
from tests.tiny import CONTEXT, LABELS, tiny_classifier, tiny_sd, tiny_sdxl

SIZES = {"original_size": (40, 30), "negative_original_size": (64, 8), "negative_target_size": (8, 64)}


def problem_of(explainer: Explainer) -> Problem:
    sampler = explainer._sampler(2, 3.0)
    bound = as_target("boat").bind(explainer.classifier)
    return Problem(explainer.pipeline, sampler, explainer.classifier, bound, "", 0)


@pytest.mark.parametrize("zeros", [True, False])
def test_a_problem_has_the_unconditional_rows_of_the_pipelines_call(zeros: bool) -> None:
    pipe = tiny_sdxl()
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    _, theirs, _, pooled = pipe.encode_prompt("a boat", device="cpu", do_classifier_free_guidance=True)
    explainer = Explainer(pipe, Classifier(tiny_classifier(), labels=LABELS))
    ours = problem_of(explainer)._negative  # a name that is read outside of the package, too
    assert ours is not None and ours.pooled is not None
    torch.testing.assert_close(ours.prompt_embeds, theirs)
    torch.testing.assert_close(ours.pooled, pooled)


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("options", [{}, {"clip_skip": 1}, SIZES, {"clip_skip": 1, **SIZES}])
def test_pictures_equal_those_of_the_pipelines_call(zeros: bool, options: dict[str, Any]) -> None:
    pipe = tiny_sdxl()
    pipe.scheduler = make_scheduler("ddim")
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    pipe.set_progress_bar_config(disable=True)
    explainer = Explainer(pipe, Classifier(tiny_classifier(), labels=LABELS), call_options=options)
    problem = problem_of(explainer)
    with torch.no_grad():
        got = problem.images(explainer.pipeline.encode_text(["a red boat"]), "train", [0])
        soft = explainer.pipeline.token_embeddings("a red boat")
        same = problem.images(problem.encode_soft(soft), "train", [0])
    latents = normal(seeded_generator(0, "train", 0), 1, 4, 8, 8)
    wanted = pipe(
        "a red boat", num_inference_steps=2, guidance_scale=3.0, latents=latents, output_type="pt", **options
    ).images
    assert relative(got, wanted) <= 1e-5 and relative(same, wanted) <= 1e-5


def test_unusual_conditioning_is_part_of_a_runs_identity() -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    usual = identity_of(problem_of(Explainer(tiny_sd(), classifier)))
    assert not {"call_options", "unconditional"} & set(usual)  # so that older checkpoints of such runs stay valid
    skipped = identity_of(problem_of(Explainer(tiny_sd(), classifier, call_options={"clip_skip": 1})))
    assert skipped == usual | {"call_options": {"clip_skip": 1}}
    xl = identity_of(problem_of(Explainer(tiny_sdxl(), classifier, call_options=SIZES)))
    assert xl["unconditional"] == "zeros" and xl["call_options"]["original_size"] == [40, 30]


def test_options_reach_an_explanation_in_one_call() -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    one, two = (
        explain(classifier, "boat", tiny_sd(), call_options=given, **QUICK) for given in (None, {"clip_skip": 1})
    )
    assert two.settings["call_options"] == {"clip_skip": 1} and "call_options" not in one.settings
    assert not torch.equal(one.prompt_embeds, two.prompt_embeds)


@pytest.mark.parametrize("start", ["random", "auto"])
def test_a_tokenizer_without_words_still_gives_a_prompt_of_numbers(start: str) -> None:
    pipe = tiny_sd()
    keep = [t for t in pipe.tokenizer.get_vocab() if len(t.removesuffix("</w>")) == 1 or t[0] == "<"]
    names = {token: number for number, token in enumerate(sorted(keep))}
    pipe.tokenizer = type(pipe.tokenizer)(vocab=names, merges=[], model_max_length=CONTEXT)
    pipe.text_encoder.resize_token_embeddings(len(names), mean_resizing=False)
    found = explain(Classifier(tiny_classifier(), labels=LABELS), "boat", pipe, **{**QUICK, "start": start})
    assert found.prompt_embeds.isfinite().all() and found.words[0][0].word


def test_a_pipeline_without_size_or_words_is_refused_before_any_work() -> None:
    sizeless, wordless = tiny_sd(), tiny_sd()
    sizeless.unet.register_to_config(sample_size=None)
    names = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    wordless.tokenizer = type(wordless.tokenizer)(vocab=names, merges=[], model_max_length=CONTEXT)
    for pipe, message in ((sizeless, r"unet\.config\.sample_size: wanted"), (wordless, "tokenizer: wanted a token")):
        with pytest.raises(ValueError, match=message):
            Explainer(pipe, Classifier(tiny_classifier(), labels=LABELS))
