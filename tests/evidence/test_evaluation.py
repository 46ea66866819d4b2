"""Activation scores: computed by hand, and on latents that training never uses."""

import pytest
import torch

from diffexplain_fast.evidence.evaluation import activation_score
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.stats.intervals import wilson_interval
from tests.explaining import QUICK, quick_explainer


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
