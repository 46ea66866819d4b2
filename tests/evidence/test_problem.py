"""Seeds without stored state, and scores of the generator's images."""

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.evidence.seeds import normal, seeded_generator, uniform
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import Disagreement, Neuron
from tests.explaining import QUICK, assert_same_result, quick_explainer
from tests.methods.diffexplainer.test_population import problem_of
from tests.tiny import LABELS, tiny_classifier, tiny_sd


def numbers(seed: int, stage: str, index: int) -> list[float]:
    return torch.randn(4, generator=seeded_generator(seed, stage, index)).tolist()


def test_latents_follow_from_seed_stage_and_number_alone() -> None:
    assert numbers(0, "train", 3) == numbers(0, "train", 3)


def test_no_two_stages_seeds_or_numbers_share_latents() -> None:
    keys = [
        (seed, stage, i)
        for seed in range(3)
        for stage in ("train", "validation", "held_out", "screen")
        for i in range(20)
    ]
    assert len({tuple(numbers(*key)) for key in keys}) == len(keys)


def test_torchs_default_device_changes_no_number() -> None:
    with torch.device("meta"):
        drawn = [draw(seeded_generator(0, "train", 0), 2, 3) for draw in (normal, uniform)]
    expected = [draw(seeded_generator(0, "train", 0), 2, 3) for draw in (normal, uniform)]
    assert all(torch.equal(*pair) for pair in zip(drawn, expected, strict=True))


@pytest.mark.parametrize("options", [{}, {"start": "auto", "candidates": ["red", "snow"], "cutouts": 1, "noise": 0.1}])
def test_torchs_default_dtype_changes_no_result(options: dict) -> None:
    options = {**QUICK, "iterations": 2, **options}
    with quick_explainer() as explainer, quick_explainer() as other:
        expected = explainer.explain("boat", **options)
        torch.set_default_dtype(torch.float64)
        try:
            found = other.explain("boat", **options)
        finally:
            torch.set_default_dtype(torch.float32)
    assert_same_result(found, expected)


def test_a_prompt_that_always_convinces_promises_more_than_one_that_overwhelms_and_fails() -> None:
    problem = problem_of()

    def promise(*probabilities: float) -> float:
        values = torch.tensor(probabilities)
        return float(problem.promise(Scores(values.log(), values, values, values > 0.5)).mean())

    assert promise(0.96, 0.97) > promise(1.0, 0.4) and promise(1.0, 1.0) == promise(0.96, 0.97)
    assert promise(1e-4) > promise(1e-6) > promise(0.0), "failures are told apart"


class HalfBroken(nn.Module):
    """The tiny classifier, whose first class is NaN in all pictures but the first of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_classifier()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        logits = self.model(pixels)
        broken = (torch.arange(len(logits))[:, None] > 0) & (torch.arange(4) == 0)
        return logits.masked_fill(broken, float("nan"))


@pytest.mark.parametrize("start", ["red", "auto"])
@pytest.mark.parametrize(
    "target",
    [
        "fish",
        "logit:fish",
        "logit:fish - logit:tree",
        "disagreement",
        "logit:fish + 0.5*neuron:model.layer2:1",
        "units",
    ],
)
def test_nan_of_a_class_is_refused_where_the_answers_are_shown(target: str, start: str) -> None:
    module = HalfBroken()
    other = Classifier(tiny_classifier(), labels=LABELS)
    wanted = {"disagreement": Disagreement(other, "fish"), "units": Neuron("model.layer2", 1)}.get(target, target)
    options = {**QUICK, "iterations": 1, "candidates": ["red", "snow"], "start": start, "n_validation": 4}
    classifier = Classifier(module, labels=LABELS, output="softmax")
    with Explainer(tiny_sd(), classifier) as explainer:
        if target == "units":  # nothing of the classes is shown beside a unit
            assert explainer.explain(wanted, **options).activation["held_out"].rate is None
            return
        with pytest.raises(NonFiniteError, match=r"scores|screening"):
            explainer.explain(wanted, **options)


def test_nan_of_another_independent_class_says_nothing_of_this_one() -> None:
    with Explainer(tiny_sd(), Classifier(HalfBroken(), labels=LABELS, output="sigmoid")) as explainer:
        for target in ("fish", "logit:fish"):
            found = explainer.explain(target, **{**QUICK, "iterations": 1}).activation["held_out"]
            assert found.mean_probability is not None and 0 < found.mean_probability < 1


def test_rows_are_counted_with_and_without_gradient() -> None:
    with quick_explainer() as explainer:
        spent = explainer.explain("boat", **{**QUICK, "iterations": 3, "guidance_scale": 1.5}).settings["found"]["cost"]
    pictures, steps, rows_a_step = QUICK["n_validation"], QUICK["num_inference_steps"], 2
    assert spent["gradient"] == 3 * 2 * steps * rows_a_step, "three steps of two pictures"
    assert spent["forward"] == 3 * pictures * steps * rows_a_step, "validated at the steps 0, 2 and 3"
