"""What a classifier says: masked classes count nowhere, and what is no number is refused before anything is drawn."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import as_target
from tests.methods.diffex.worlds import pictures, quick_attribution
from tests.tiny import LABELS

NAN, INF = float("nan"), float("inf")
AGE, OTHER = dx.ClassLogit("age"), as_target(lambda response: response.logits[:, 1])
ROOM = len(LABELS)


class Fixed(nn.Module):
    """The brightness is the first logit; the others are given."""

    def __init__(self, *others: float) -> None:
        super().__init__()
        self.others = others

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, C]."""
        light = 20 * pixels.mean((1, 2, 3))
        return torch.stack([light, *(torch.full_like(light, value) for value in self.others)], 1)


def answers(*others: float, output: str = "softmax", target: object = 0) -> Answers:
    classifier = Classifier(Fixed(*others), output=output)
    return Answers(classifier, as_target(target).bind(classifier))


def test_a_masked_class_counts_neither_in_the_mean_nor_in_the_probability() -> None:
    masked, without = (answers(*others).ask(pictures()) for others in ((1.0, -INF, 2.0), (1.0, 2.0)))
    assert torch.allclose(masked.value, without.value) and torch.equal(masked.probability, without.probability)
    assert masked.hit.tolist() == without.hit.tolist() and bool(masked.value.isfinite().all())
    alone = answers(NAN, INF, output="sigmoid").ask(pictures())  # each class is there or not
    assert torch.allclose(alone.value, 20 * pictures().mean((1, 2, 3)).double())


@pytest.mark.parametrize("target", ["fish", "no fish"])
def test_the_second_label_of_one_logit_is_what_pictures_are_that_are_not_of_the_first(target: str) -> None:
    def light(pixels: Tensor) -> Tensor:
        return pixels.mean((1, 2, 3))[:, None] - 0.5

    shown = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    for model, labels, names in (
        (light, ["fish", "no fish"], ["no fish", "fish"]),
        (light, ["fish"], ["not fish", "fish"]),
        (lambda pixels: light(pixels).repeat(1, 2), ["fish", "no fish"], [f"not {target}", target]),
    ):
        classifier = Classifier(model, labels=labels, output="sigmoid")
        if target in labels:
            assert Answers(classifier, as_target(target).bind(classifier)).ask(shown).names == names


@pytest.mark.parametrize("others", [(NAN, 1.0), (INF, 1.0), (1.0, -INF)])
def test_what_is_no_number_is_refused(others: tuple[float, ...]) -> None:
    target = 2 if others[1] == -INF else 0
    message = r"classifier Fixed: wanted finite logits, or -inf for .*, got \d.*(nan|inf)"
    with pytest.raises(NonFiniteError, match=message):
        answers(*others, target=target).ask(pictures())


@pytest.mark.parametrize("target", [lambda response: response.logits[:, 1], "logit:0 - logit:1"])
def test_a_target_that_is_no_number_is_named(target: object) -> None:
    with pytest.raises(NonFiniteError, match=r"target .*: wanted finite scores, got -?(nan|inf)"):
        answers(-INF, 1.0, target=target).ask(pictures())


def test_an_attribution_refuses_them_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*given: object) -> None:
        raise AssertionError("something was drawn")

    monkeypatch.setattr(LatentModels, "encode", encode)
    with pytest.raises(NonFiniteError, match="classifier Fixed"):
        quick_attribution(Fixed(*[NAN] * (ROOM - 1)), target=LABELS[0])
    with dx.Explainer("tinyworld", dx.Classifier(Fixed(NAN))) as explainer, pytest.raises(NonFiniteError):
        explainer.counterfactual(pictures(1), 0)


def test_masked_classes_do_not_stop_an_attribution(tmp_path: Path) -> None:
    options = {"module": Fixed(*[-INF] * (ROOM - 2), 10.0), "images": pictures(1), "target": LABELS[0]}
    found = quick_attribution(**options, checkpoint=tmp_path / "c")
    assert any(row.effect for row in found.rows)
    assert quick_attribution(**options, checkpoint=tmp_path / "c").to_json() == found.to_json()


@pytest.mark.parametrize(
    ("output", "target", "name", "unit"),
    [
        ("regression", "age", "age", "units of the outputs"),
        ("regression", -dx.ClassLogit("age"), "-ClassLogit(age)", "the unit of the target"),
        ("sigmoid", "age", "ClassProbability(age)", "log-odds"),
        ("softmax", "age", "ClassProbability(age)", "logits"),
        ("softmax", lambda response: response.logits[:, 0], None, "the unit of the target"),
        ("softmax", 0.5 * dx.ClassProbability("age"), None, "the unit of the target"),
        ("sigmoid", dx.ClassProbability("age") - dx.ClassProbability("size"), None, "the unit of the target"),
        ("softmax", AGE + OTHER, None, "the unit of the target"),
        ("softmax", "logit:age - logit:size", None, "logits"),
        ("softmax", "-1*logit:age", None, "logits"),
        ("independent probabilities", "logit:age + logit:size", None, "log-odds"),
    ],
)
def test_a_target_has_a_name_and_a_unit(output: str, target: object, name: str | None, unit: str) -> None:
    classifier = Classifier(Fixed(1.0), labels=["age", "size"], output=output)
    found = Answers(classifier, as_target(target).bind(classifier))
    assert found.unit == unit and (name is None or found.name == name)
