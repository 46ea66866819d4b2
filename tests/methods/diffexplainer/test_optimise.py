"""The optimisation: it descends, stops, restarts, keeps the best, and its gradient is that of the equations."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.methods.diffexplainer.descent import descend
from diffexplain_fast.methods.diffexplainer.loss import word_distance
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.state import State, still_steps
from diffexplain_fast.methods.diffexplainer.state_files import read_state, write_state
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.results.explanation import Iteration
from diffexplain_fast.targets import ClassLogit, Neuron
from tests.explaining import QUICK, quick_explainer, quick_explanation
from tests.tiny import tiny_classifier


def test_the_target_rises_on_training_and_held_out_latents() -> None:
    longer = {"iterations": 15, "lr": 0.05, "n_score": 8, "fresh_latents": False}
    with quick_explainer() as explainer:
        before = explainer.explain(ClassLogit("boat"), **{**QUICK, **longer, "iterations": 1, "lr": 1e-9})
        after = explainer.explain(ClassLogit("boat"), **{**QUICK, **longer})
    assert after.history[-1].logit > after.history[0].logit
    assert after.activation["held_out"].mean_logit > before.activation["held_out"].mean_logit


def test_the_first_step_goes_against_the_gradient_by_the_step_size() -> None:
    options = {**QUICK, "iterations": 1, "start": "red fish", "fresh_latents": False, "guidance_scale": 1.0, "lr": 0.01}
    with quick_explainer() as explainer:
        pipeline = explainer.pipeline
        stepped = explainer.explain(ClassLogit("boat"), **options).prompt_embeds
        sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=2, guidance_scale=1.0)
        target = ClassLogit("boat").bind(explainer.classifier)
        problem = Problem(pipeline, sampler, explainer.classifier, target, "", seed=0)
        soft = pipeline.token_embeddings("red fish").requires_grad_()
        score = problem.scores(problem.images(problem.encode_soft(soft), "train", [0, 1])).score.mean()
        (gradient,) = torch.autograd.grad(score, soft)
    moved = (stepped - soft.detach()) / problem.embedding_scale
    torch.testing.assert_close(moved, 0.01 * gradient.sign(), rtol=0.02, atol=0)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("cosine", [True, False])
def test_descending_is_adam_by_hand(normalise: bool, cosine: bool) -> None:
    options = Options(lr=0.3, iterations=4, normalise_gradient=normalise, cosine_schedule=cosine)
    generator = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    state = State(start[None], [], start, start)
    expected, first, second = start.clone(), 0, 0
    for step, gradient in enumerate(gradients):
        state.step = step
        state.soft, state.adam = descend(options, state, gradient, longest=math.inf)
        if normalise:
            gradient = gradient / (gradient.norm(dim=1, keepdim=True) / 3**0.5)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        lr = 0.3 * (0.5 + 0.5 * math.cos(math.pi * step / 4) if cosine else 1)
        expected -= lr * (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    torch.testing.assert_close(state.soft, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(state.starts[0], start)


def test_no_token_grows_longer_than_the_longest_word() -> None:
    start = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    state = State(start[None], [], start, start)
    soft, _ = descend(Options(lr=0.01), state, -start, longest=5.0)
    assert float(soft[0].norm()) == pytest.approx(5.0)
    torch.testing.assert_close(soft[1], start[1] + 0.01)


def test_the_best_validated_state_is_the_result() -> None:
    options = {**QUICK, "iterations": 6, "lr": 3.0, "checkpoint_every": 100}
    with quick_explainer() as explainer:
        explanation = explainer.explain(ClassLogit("boat"), **options)
        validations = explanation.settings["validations"]
        target = ClassLogit("boat").bind(explainer.classifier)
        sampler = DifferentiableSampler.from_pipe(explainer.pipeline, num_inference_steps=2)
        problem = Problem(explainer.pipeline, sampler, explainer.classifier, target, "", seed=0)
        with torch.no_grad():
            images = problem.images(problem.encode_soft(explanation.prompt_embeds), "validation", [0, 1])
            score = problem.scores(images).score.mean().item()
    assert [entry["step"] for entry in validations] == [0, 2, 4, 6]
    best = max(validations, key=lambda entry: (entry["rate"], entry["score"]))
    assert score == pytest.approx(best["score"], rel=1e-5)


def test_a_target_that_is_reached_stops_early() -> None:
    explanation = quick_explanation(Certain(), iterations=30, stop_probability=0.9, patience=3, validate_every=10)
    assert len(explanation.history) == 3
    assert all(item.gradient_norm == 0 for item in explanation.history)  # nothing to gain, so no step
    found = explanation.settings["found"]
    assert (found["by"], found["steps_convinced"], found["moved"]) == ("random", 3, False)
    assert found["attempt_convinced"] == 3
    assert "No step of the gradient was taken: a random prompt convinced the classifier." in explanation.summary()


class Flat(nn.Module):
    """The tiny classifier with a head whose gradient is zero, as that of a dead ReLU is."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_classifier()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        return 0.0 * self.model(pixels)


@pytest.mark.parametrize(
    ("start", "by", "what"), [("boat", "given", "the words that were given"), ("random", "random", "a random prompt")]
)
def test_a_gradient_of_zero_is_not_called_convincing(start: str, by: str, what: str) -> None:
    explanation = quick_explanation(Flat(), start=start, stop_probability=0.9)
    found = explanation.settings["found"]
    assert (found["by"], found["steps_convinced"], found["moved"]) == (by, 0, False)
    assert f"was taken: the gradient was zero, so that {what} could not be changed." in explanation.summary()


def test_a_state_of_an_earlier_version_counts_steps_without_gradient_as_convinced(tmp_path: Path) -> None:
    soft, history = torch.ones(2, 4), [Iteration(i, 1.0, 0.0, norm, 0.5) for i, norm in enumerate((0.0, 0.3, 0.0))]
    state = State(soft[None], [{"name": "boat", "score": None}], soft, soft, history=history, convinced=1)
    paths = tmp_path / "state.safetensors", tmp_path / "state.json"
    write_state(state, *paths)
    assert read_state(*paths, torch.device("cpu")).convinced == 1
    names = [{"name": name, "score": None} for name in ("boat", "red")]
    first = {"attempt": 0, "step": 2, "rate": 0.0, "score": 0.0}
    two = replace(state, starts=soft.expand(2, 2, 4), ranking=names, attempt=1, step=1, validations=[first])
    assert still_steps(two) == [1, 1] and still_steps(replace(two, attempt=2, finished=True)) == [1]
    values = json.loads(paths[1].read_text())
    del values["convinced"]
    paths[1].write_text(json.dumps(values))
    assert read_state(*paths, torch.device("cpu")).convinced == 2


def test_tokens_that_have_not_moved_are_not_validated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    batches = Problem.batches

    def counted(
        problem: Problem, conditioning: Conditioning, stage: str, count: int
    ) -> Iterator[tuple[Tensor, Scores]]:
        drawn.append(stage)
        return batches(problem, conditioning, stage, count)

    monkeypatch.setattr(Problem, "batches", counted)
    options = {"iterations": 4, "validate_every": 2, "stop_probability": 0.9, "patience": 30}
    still = quick_explanation(Certain(), **options).settings["validations"]
    assert [entry["step"] for entry in still] == [0, 2] and still[0]["score"] == still[1]["score"]
    assert drawn.count("validation") == 1
    drawn.clear()
    moved = quick_explanation(**{**options, "stop_probability": None}).settings["validations"]
    assert drawn.count("validation") == len(moved) == 3 and moved[0]["score"] != moved[1]["score"]


def test_a_perfect_validation_that_is_not_bettered_ends_the_attempt() -> None:
    explanation = quick_explanation(Certain(), iterations=30, stop_probability=0.9, patience=30, validate_every=4)
    assert len(explanation.history) == 4


def test_patience_of_a_compound_target_runs_all_iterations() -> None:
    target = ClassLogit("boat") + 0.5 * Neuron("model.layer2", 3)
    explanation = quick_explanation(Certain(), target=target, iterations=5, stop_probability=0.9, patience=1)
    assert len(explanation.history) == 5


def test_a_target_that_is_missed_tries_the_next_start() -> None:
    explanation = quick_explanation(Certain(), target="fish", iterations=2, restarts=2)
    assert [entry["attempt"] for entry in explanation.settings["validations"]] == [0, 0, 1, 1, 2, 2]
    assert [item.iteration for item in explanation.history] == list(range(6))
    summary, found = explanation.summary(), explanation.settings["found"]
    assert "2 steps of the gradient" in summary and "Of 3 attempts, with 6 steps in all, this was the best." in summary
    assert explanation.settings["starts"][found["attempt"]]["name"] == explanation.settings["start"]
    assert explanation.activation["held_out"].rate == 0.0


def test_a_neuron_has_no_rate_and_one_attempt() -> None:
    explanation = quick_explanation(target=Neuron("layer2", 3), restarts=2)
    assert len(explanation.history) == QUICK["iterations"]
    assert explanation.label is None and "class_name" not in explanation.activation
    assert explanation.activation["held_out"].rate is None


def test_the_pull_to_words_is_zero_on_words_and_shortens_distances() -> None:
    vocabulary = nn.functional.normalize(torch.randn(9, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert float(word_distance(3 * vocabulary[[2, 4]], vocabulary)) == pytest.approx(0, abs=1e-6)
    opposite = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(word_distance(opposite, torch.tensor([[1.0, 0.0]]))) == pytest.approx(0.5)
    with quick_explainer() as explainer:
        free, pulled = (
            explainer.explain("boat", **{**QUICK, "iterations": 12, "word_pull": w, "n_validation": 1})
            for w in (0, 100)
        )

    nearest = [sum(token[0].similarity for token in explanation.words) for explanation in (free, pulled)]
    assert nearest[1] > nearest[0]


def test_fixed_latents_give_equal_images_each_step() -> None:
    still = {"lr": 1e-12, "iterations": 3}
    fixed, fresh = (quick_explanation(fresh_latents=value, **still) for value in (False, True))
    assert len({round(item.loss, 5) for item in fixed.history}) == 1
    assert len({round(item.loss, 5) for item in fresh.history}) > 1
    assert fixed.activation["train"].n == 2


def test_cutouts_and_noise_change_the_path() -> None:
    plain, varied = quick_explanation(), quick_explanation(cutouts=2, noise=0.05)
    assert plain.history[0].loss != varied.history[0].loss
    assert all(math.isfinite(item.loss) for item in varied.history)


class Certain(nn.Module):
    """The tiny classifier with a head that answers "boat" whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_classifier()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 4]."""
        return 0.01 * self.model(pixels) + torch.tensor([9.0, 0.0, 0.0, 0.0])
