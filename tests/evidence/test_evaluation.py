"""Activation scores: computed by hand, and on latents that training never uses."""

from pathlib import Path

import pytest
import torch

from diffexplain_fast.evidence.evaluation import _add_pictures, activation_score
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.number_texts import effect_text
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.targets import as_target
from tests.explaining import QUICK, quick_explainer


@pytest.mark.parametrize("target", ["logit:boat - 10*logit:fish", "logit:boat + 5*neuron:layer2:3", "-logit:fish"])
def test_the_mean_of_the_target_is_in_the_scores_and_in_the_report(target: str, tmp_path: Path) -> None:
    options = {**QUICK, "n_score": 8}
    with quick_explainer() as explainer:
        rows, (found,) = explainer.prefixes(target, ("the",), **options)
        sampler = explainer._sampler(2, None)
        bound = as_target(target).bind(explainer.classifier)
        problem = Problem(explainer.pipeline, sampler, explainer.classifier, bound, "the", 0)
        parts = problem.batches(problem.encode_soft(found.prompt_embeds), "held_out", 8)
        scores = [part.score for _, part in parts]
    score = found.activation["held_out"]
    assert score.mean_score == pytest.approx(float(torch.cat(scores).mean()), rel=1e-4)
    assert rows[0].logit == score.mean_target == score.mean_score
    if found.label is not None:
        assert score.mean_score != pytest.approx(score.mean_logit)
    said = effect_text(score.mean_score, signs="")
    assert said in found.summary() and f">{said}</span>" in found.report(tmp_path / "a.html").read_text()


def test_a_class_has_its_logit_alone() -> None:
    with quick_explainer() as explainer:
        rows, (found,) = explainer.prefixes("boat", ("the",), **QUICK)
    score = found.activation["held_out"]
    assert score.mean_score is None and rows[0].logit == score.mean_logit == score.mean_target


def test_a_score_has_the_numbers_computed_by_hand() -> None:
    first = Scores(
        torch.tensor([0.0, 1.0]), torch.tensor([2.0, 4.0]), torch.tensor([0.5, 0.7]), torch.tensor([True, False])
    )
    second = Scores(torch.tensor([3.0]), torch.tensor([6.0]), torch.tensor([0.9]), torch.tensor([True]))
    score = activation_score([first, second])
    assert (score.n, score.rate, score.mean_logit) == (3, 2 / 3, 4.0)
    assert score.mean_probability == pytest.approx(0.7)
    assert score.interval == wilson_interval(2, 3)


def test_a_target_without_a_class_has_no_rate() -> None:
    scores = torch.tensor([1.0, 2.0])
    score = activation_score([Scores(scores, scores, None, None)])
    assert (score.n, score.rate, score.interval, score.mean_logit, score.mean_probability) == (2, None, None, 1.5, None)


def test_held_out_latents_are_never_trained_on() -> None:
    used: dict[str, set[bytes]] = {"grad": set(), "no grad": set()}
    with quick_explainer() as explainer:
        unet = explainer.pipeline.unet

        def record(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            timestep = float(args[1] if len(args) > 1 else kwargs["timestep"])
            sample = args[0] if args else kwargs["sample"]
            if timestep > 400:
                kind = "grad" if torch.is_grad_enabled() else "no grad"
                used[kind] |= {row.detach().numpy().tobytes() for row in sample}

        handle = unet.register_forward_pre_hook(record, with_kwargs=True)
        explanation = explainer.explain("boat", **QUICK)
        handle.remove()
    steps, per_step = QUICK["iterations"], 2
    assert len(used["grad"]) == steps * per_step
    trained = explanation.activation["train"].n
    assert trained == QUICK["n_score"]
    # Without a gradient run validation, held-out latents, and the training latents again; only the last may be shared.
    assert len(used["grad"] & used["no grad"]) == trained
    assert len(used["no grad"]) == QUICK["n_validation"] + QUICK["n_score"] + trained


def test_pictures_are_shown_with_their_answers() -> None:
    with quick_explainer() as explainer:
        found = explainer.explain("boat", **QUICK)
        assert {name: len(shown) for name, shown in found.pictures.items() if name != "failures"} == {
            "held_out": 2,
            "class_name": 2,
        }
        assert [picture.image for picture in found.pictures["held_out"]] == found.images
        for name in ("held_out", "class_name"):
            assert [picture.answer.latent for picture in found.pictures[name]] == [0, 1]
        everything = explainer.explain("boat", **{**QUICK, "n_images": QUICK["n_score"]}).pictures
    answers = [picture.answer for picture in everything["held_out"]]
    assert everything["failures"] == [] and len(answers) == QUICK["n_score"]
    score = found.activation["held_out"]
    assert sum(bool(answer.hit) for answer in answers) == round((score.rate or 0) * score.n)
    assert sum(answer.logit for answer in answers) / len(answers) == pytest.approx(score.mean_logit, rel=1e-5)
    assert all(answer.hit == (answer.label == "boat") for answer in answers)
    missed = [answer for answer in answers[2:] if not answer.hit]
    assert [picture.answer.latent for picture in found.pictures["failures"]] == [answer.latent for answer in missed]


def test_further_failures_are_kept_and_classes_that_do_not_exclude_one_another_have_no_answer() -> None:
    shown: dict = {}
    hit = torch.tensor([True, False, False, True])
    scores = Scores(torch.arange(4.0), torch.arange(4.0), torch.full((4,), 0.25), hit)
    _add_pictures(shown, "held_out", 4, torch.zeros(4, 3, 8, 8), scores, 6, str)
    assert [picture.answer.latent for picture in shown["held_out"]] == [4, 5]
    assert [(p.answer.latent, p.answer.logit, p.answer.label) for p in shown["failures"]] == [(6, 2.0, None)]
    _add_pictures(shown, "class_name", 4, torch.zeros(4, 3, 8, 8), scores, 6, str)
    assert len(shown["class_name"]) == 2 and len(shown["failures"]) == 1
