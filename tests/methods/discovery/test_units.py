"""Hidden features with planted responses: chosen on one half, measured on the other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.methods.discovery.directions import chosen_directions
from diffexplain_fast.methods.discovery.layers import Layers
from diffexplain_fast.methods.discovery.unit_heads import head_of
from diffexplain_fast.methods.discovery.unit_rows import feature_rows
from diffexplain_fast.methods.discovery.weights import picture_weights, shares_of
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.stats.asked import Asked
from tests.auditing import QUICK, TINY_GROUPS, made_up, quick_audit
from tests.tiny import LABELS, tiny_classifier, tiny_sd

TRIAL = made_up({}, pictures=384)
ASKED, NAMES = TRIAL.plan.asked, TRIAL.concepts.names
RNG = np.random.default_rng(0)


def responses(strength: float, count: int = 60) -> tuple[np.ndarray, list[int]]:
    """Return units [pictures, count] that respond to one concept each, and the place of that concept."""
    wanted = [i % len(NAMES) for i in range(count)]
    return strength * ASKED.named[:, wanted] + RNG.standard_normal((len(ASKED.design), count)), wanted


def test_units_are_named_and_their_effects_have_no_optimism() -> None:
    values, wanted = responses(2.0)
    rows = feature_rows(ASKED, NAMES, values, [f"unit {i}" for i in range(60)], 0.25, 0.05)
    assert np.mean([row.concept == NAMES[place] for row, place in zip(rows, wanted, strict=True)]) >= 0.95
    true = 2.0 / values.std(0)
    covered = [row.low <= size <= row.high for row, size in zip(rows, true, strict=True)]
    assert np.mean(covered) >= 0.9 and all(row.finding for row in rows)
    assert all(row.correlation is not None and row.correlation > 0.3 and row.auc > 0.8 for row in rows)  # type: ignore[operator]


@pytest.mark.parametrize("constant", [0.1, 0.3, 0.7, 1 / 3, 1e3 + 0.1, 1.7])
def test_a_unit_that_is_constant_but_for_rounding_has_no_effect(constant: float) -> None:
    values = np.stack(
        [np.random.default_rng(1).standard_normal(len(ASKED.design)), np.full(len(ASKED.design), constant)], 1
    )
    row = feature_rows(ASKED, NAMES, values, ["noise", "dead"], 0.25, 0.05)[1]
    assert (row.effect, row.chosen_effect, row.finding, row.auc) == (0, 0, False, 0.5)
    assert max(abs(row.low), abs(row.high)) < 1e-9 and row.adjusted_p == 1
    assert row.correlation is not None and np.isnan(row.correlation) and row.mad is not None and np.isnan(row.mad)


def test_units_of_noise_give_no_finding_though_the_first_half_chooses_the_largest() -> None:
    values, _ = responses(0.0)
    rows = feature_rows(ASKED, NAMES, values, [f"unit {i}" for i in range(60)], 0.25, 0.05)
    assert not any(row.finding for row in rows)
    chosen = np.array([row.chosen_effect or 0 for row in rows])
    fresh = np.array([row.effect for row in rows]) * np.sign(chosen)
    assert np.abs(chosen).mean() > 0.25 and abs(fresh.mean()) < 0.1  # the largest of many shrinks to nothing


def test_a_unit_that_answers_in_the_users_pictures_has_its_effect_there() -> None:
    # Red counts only in the desert: a quarter of the pictures of the trial, .7 of the user's.
    shares = shares_of({"background": {"desert": 0.7}}, TRIAL.concepts)
    asked = Asked(ASKED.design, ASKED.levels, ASKED.groups, picture_weights(shares, TRIAL.concepts, ASKED.design))
    both = ASKED.named[:, [NAMES.index("background:desert"), NAMES.index("colour:red")]].all(1)
    values = 4.0 * both[:, None] + 0.1 * RNG.standard_normal((len(both), 1))
    effects = []
    for weights in (None, asked.weights):
        (row,) = feature_rows(replace(ASKED, weights=weights), NAMES, values, ["unit 0"], 0.25, 0.05)
        effects.append(abs(row.effect) * values.std())
    assert effects[1] > effects[0] + 1
    assert (asked.part(slice(9)).weights == asked.weights[:9]).all()  # type: ignore[index]
    with pytest.raises(ValueError, match="weights: wanted 9 numbers, one a picture, got 384"):
        replace(asked, design=asked.design[:9])


def test_too_few_pictures_and_a_wrong_effect_are_refused() -> None:
    values, _ = responses(1.0, 2)
    with pytest.raises(ValueError, match="pictures: wanted at least"):
        feature_rows(ASKED.part(slice(16)), NAMES, values[:16], ["a", "b"], 0.25, 0.05)
    with pytest.raises(TypeError, match="minimal_effect: wanted a number"):
        feature_rows(ASKED, NAMES, values, ["a", "b"], "small", 0.05)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="minimal_effect: wanted 0 or above"):
        feature_rows(ASKED, NAMES, values, ["a", "b"], -1, 0.05)


def test_every_number_of_pictures_has_rows_or_is_refused_by_name() -> None:
    design = ASKED.design.copy()
    for group in range(3):
        design[group::7, group] = -1  # captions leave groups out
    asked, values = replace(ASKED, design=design), responses(1.0, 1)[0]
    assert asked.most_terms == asked.rank == asked.terms + 3
    refused, least = list[int](), 2 * asked.most_terms + 2
    for pictures in range(2 * asked.terms, least + 2):
        try:
            feature_rows(asked.part(slice(pictures)), NAMES, values[:pictures], ["a"], 0.25, 0.05)
        except ValueError as error:
            assert str(error).startswith(f"pictures: wanted at least {least} pictures")
            refused.append(pictures)
    assert refused and max(refused) < least


def test_directions_are_components_vectors_or_concepts() -> None:
    desert = ASKED.named[:, NAMES.index("background:desert")]
    mixing = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
    values = np.column_stack([3 * desert, *(0.5 * RNG.standard_normal((5, len(desert))))]) @ mixing
    vectors = chosen_directions(["background:desert"], values, ASKED.named, NAMES)
    assert abs(vectors["CAV background:desert"] @ mixing[0]) > 0.9  # the axis along which desert lies
    (first,) = chosen_directions(1, values, ASKED.named, NAMES).values()
    assert abs(first @ mixing[0]) > 0.9
    given = chosen_directions({"mine": mixing[0].tolist()}, values, ASKED.named, NAMES)
    (row,) = feature_rows(ASKED, NAMES, values @ np.stack(list(given.values()), 1), ["mine"], 0.25, 0.05)
    assert row.concept == "background:desert" and row.finding


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "directions: wanted 1 to 6 components"),
        ({}, "directions: wanted at least one"),
        ({"mine": [1.0]}, "directions, mine: wanted a vector of 6 finite numbers"),
        ({"mine": [0.0] * 6}, "directions, mine: wanted a vector"),
        (["background:desrt"], "nearest: background:desert"),
    ],
)
def test_wrong_directions_are_refused(given: object, message: str) -> None:
    values = RNG.standard_normal((len(ASKED.design), 6))
    with pytest.raises((ValueError, UnknownNameError), match=message):
        chosen_directions(given, values, ASKED.named, NAMES)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="directions: wanted a number"):
        chosen_directions("background:desert", values, ASKED.named, NAMES)


def weights_of(model: nn.Module, target: str | int, layer: str, **options: Any) -> np.ndarray:
    """Return the weights with which the last linear layer reads a layer."""
    return head_of(Classifier(model, **options), target, layer, torch.zeros(1, 3, 8, 8)).weights  # type: ignore[arg-type]


def test_the_weights_of_a_class_are_those_of_the_last_linear_layer() -> None:
    model = tiny_classifier()
    assert np.allclose(weights_of(model, "fish", "layer2", labels=LABELS), model.head.weight[1].detach())
    assert np.allclose(weights_of(model, "fish", "layer2.0", labels=LABELS), model.head.weight[1].detach())
    for layer in ("layer1", "head"):
        with pytest.raises(ValueError, match="layer: wanted the layer before the last linear one"):
            weights_of(model, "fish", layer, labels=LABELS)
    pixel = nn.Sequential(nn.Identity(), nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    row = pixel[1].weight[2].detach().flatten()  # type: ignore[index]
    assert np.allclose(weights_of(pixel, 2, "0", output="softmax"), row)


class Parts(nn.Module):
    """Layers of one width: a map, its mean, a hidden layer, and a head that may pick, turn or squash its numbers."""

    def __init__(self, rows: int, after: Callable[[Tensor], Tensor] = lambda logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.mid, self.mixed = nn.Conv2d(3, 16, 3), nn.Linear(16, 16), nn.Identity()
        self.pooled, self.drop, self.norm = nn.Identity(), nn.Dropout(0.5), nn.BatchNorm1d(16)
        self.head, self.after = nn.Linear(16, rows), after

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the numbers [B, C]."""
        pooled = self.pooled(self.stem(pixels).relu().mean((2, 3)))
        both = self.mixed(pooled) + self.mid(pooled).relu()
        return self.after(self.head(self.drop(self.norm(both))))


@pytest.mark.parametrize("layer", ["stem", "pooled", "mid", "mixed"])
def test_a_layer_that_the_head_does_not_read_alone_is_refused_though_it_has_as_many_units(layer: str) -> None:
    with pytest.raises(ValueError, match=f"layer: wanted the layer before .* got {layer}, which it does not read"):
        weights_of(Parts(3), 1, layer, output="softmax")
    model = Parts(3)
    for read in ("norm", "drop"):
        assert np.allclose(weights_of(model, 1, read, output="softmax"), model.head.weight[1].detach())


def test_the_second_of_two_labels_has_the_negative_weights_of_the_only_row() -> None:
    model, two = Parts(1), {"labels": ["defect", "no defect"], "output": "sigmoid"}
    row = model.head.weight[0].detach()
    assert np.allclose(weights_of(model, "defect", "norm", **two), row)
    assert np.allclose(weights_of(model, "no defect", "norm", **two), -row)
    turned = Parts(1, lambda logits: -2 * logits)
    assert np.allclose(weights_of(turned, "defect", "norm", **two), -turned.head.weight[0].detach())


def test_numbers_after_the_head_are_followed_or_refused() -> None:
    squashed = Parts(3, lambda logits: logits.softmax(1))
    found = weights_of(squashed, 2, "norm", output="probabilities")
    assert np.allclose(found, squashed.head.weight[2].detach())
    for after in (lambda logits: logits.flip(1), lambda logits: logits[:, :1] - logits[:, 1:2], torch.cos):
        with pytest.raises(ValueError, match="target: wanted a class whose logit is a row of a linear layer, got 0"):
            weights_of(Parts(3, after), 0, "norm", output="sigmoid")


def test_independent_classes_are_answered_above_one_half(tmp_path: Path) -> None:
    model = tiny_classifier()
    with Explainer(load_pipeline(tiny_sd()), Classifier(model, labels=LABELS, output="sigmoid")) as explainer:
        options = {"concepts": TINY_GROUPS, "pool": tmp_path, "own_pictures": 0, **QUICK}
        first = explainer.audit(**options).outcomes["values"][:, 1]
        with torch.no_grad():
            model.head.bias[1] -= (
                float(np.median(first)) / 4
            )  # the model multiplies by 4; half of the pictures are answered with fish
            model.head.bias[0] += 9.0  # and boat is always the argmax
        audit = explainer.audit(**options)
        rows = audit.units("layer2", units=range(12), target="fish")
    hits, values = (audit.outcomes[name][:, 1] for name in ("hits", "values"))
    assert 0 < hits.mean() < 1 and (hits == (values > 0)).all()
    total = 4 * (sum(row.contribution or 0 for row in rows) + float(model.head.bias[1].detach()))
    assert total == pytest.approx(values[hits].mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("units", {"target": "fsh"}, "label: wanted one of 4 known names"),
        ("units", {"units": [12]}, "units: wanted numbers from 0 to 11"),
        ("units", {"units": 7}, "units: wanted numbers of units"),
        ("units", {"minimal_effect": float("nan")}, "minimal_effect: wanted 0 or above, finite"),
        ("directions", {"directions": ["background:desrt"]}, "nearest: background:desert"),
        ("directions", {"directions": {"mine": ["a"]}}, "directions, mine: wanted a vector of 12 finite numbers"),
    ],
)
def test_bad_features_are_refused_before_the_pictures_are_looked_at(
    hidden: Audit, method: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Layers, "_pictures", None)
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(hidden, method)("layer2", **options)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Return an audit whose hidden features are asked for."""
    return quick_audit(tmp_path_factory.mktemp("pool"))
