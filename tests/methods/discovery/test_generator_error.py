"""The generator's error of a group: it grows with large effects, and small ones say nothing about that."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.generator import fitted_errors, generator_errors
from diffexplain_fast.methods.discovery.plan import context_plan
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.records import JsonObject
from diffexplain_fast.tinyworld.words import BACKGROUNDS, OBJECTS
from tests.auditing import SPOKEN, AnyText

CONSTANT, GROWTH = 0.1, 0.2


def _cells(truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise = np.full(len(truth), 0.05)
    spread = np.sqrt(noise**2 + CONSTANT**2 + (GROWTH * truth) ** 2)
    return truth + spread * rng.standard_normal(len(truth)), truth, noise


@pytest.mark.parametrize("seed", range(4))
def test_a_group_of_small_effects_grows_as_all_groups_together(seed: int) -> None:
    rng = np.random.default_rng([9, seed])
    cells = {
        "background": _cells(rng.normal(0, 0.15, 120), seed),
        "object": _cells(rng.normal(0, 4, 160), seed + 100),
    }
    errors = fitted_errors(cells)
    assert errors["object"].b == pytest.approx(GROWTH, abs=0.05)
    # Fitted to small effects alone the growth was .5 and more, so that an effect of 6 had an interval of +-6.
    assert errors["background"].b == pytest.approx(GROWTH, abs=0.05)
    assert errors["background"].a == pytest.approx(CONSTANT, abs=0.03)


def test_nothing_is_fitted_to_nothing() -> None:
    assert fitted_errors({}) == {}


def test_the_usual_growth_stands_where_no_group_has_large_effects() -> None:
    rng = np.random.default_rng(2)
    errors = fitted_errors({name: _cells(rng.normal(0, 0.1, 60), seed) for seed, name in enumerate("ab")})
    assert [error.b for error in errors.values()] == [0.1, 0.1]  # it was 0, so that an effect of 6 was known to .1


class _Both(nn.Module):
    """Every class has its own background, which counts only beside the class's own object: 8 logits; channels 0 and 1
    of a picture say its object and its background."""

    def forward(self, pixels: Tensor) -> Tensor:
        objects, grounds = (pixels[:, channel].flatten(1)[:, : len(OBJECTS)] for channel in (0, 1))
        cues = torch.stack([grounds[:, place % len(BACKGROUNDS)] for place in range(len(OBJECTS))], 1)
        return objects + 8 * objects * cues + pixels[:, 2].flatten(1)[:, : len(OBJECTS)]


def _picture(thing: int, ground: int, noise: np.ndarray) -> Tensor:
    pixels = torch.zeros(3, 3, 3)
    pixels.flatten(1)[0, thing], pixels.flatten(1)[1, ground] = 1, 1
    pixels[2] = torch.from_numpy(noise).float()
    return pixels


def _truth() -> dict[str, JsonObject]:
    """Return the truth of such a classifier with its levels, exact."""
    cells = [[_picture(thing, ground, np.zeros((3, 3))) for ground in range(len(BACKGROUNDS))] for thing in range(8)]
    logits = _Both()(torch.stack([one for row in cells for one in row])).reshape(8, len(BACKGROUNDS), 8).numpy()
    logits = logits - logits.mean(2, keepdims=True)
    truth = {}
    for place, label in enumerate(OBJECTS):
        own, others = logits[place, :, place], np.delete(logits[:, :, place], place, 0).mean(0)
        effects = (own + others) / 2 - np.median((own + others) / 2)
        rows = zip(BACKGROUNDS, effects.tolist(), own.tolist(), others.tolist(), strict=True)
        truth[label] = {
            "attributes": [
                {
                    "attribute": f"background:{name}",
                    "effect": effect,
                    "interval": [effect, effect],
                    "role": "none",
                    "levels": {"with": {"logit": one}, "without": {"logit": other}},
                }
                for name, effect, one, other in rows
            ]
        }
    return truth


@pytest.mark.parametrize("others", [[], list(OBJECTS[:6]), list(OBJECTS)])
def test_an_effect_without_the_own_object_is_no_error_of_the_generator(others: list[str]) -> None:
    concepts = Concepts({"background": list(BACKGROUNDS)} | ({"object": others} if others else {}))
    plan = context_plan(concepts, SPOKEN, AnyText(), 384, 0)  # type: ignore[arg-type]
    rng, pixels = np.random.default_rng(0), []
    for row in plan.asked.design.tolist():
        chosen = OBJECTS.index(others[row[1]]) if others else int(rng.integers(8))
        pixels.append(_picture(chosen, row[0], rng.uniform(0, 0.3, (3, 3))))
    pool = SimpleNamespace(
        pictures=lambda *_: [torch.stack(pixels)],
        as_pixels=lambda levels: levels,
        blank=lambda: torch.zeros(1, 3, 3, 3),
    )
    aside = Classifier(_Both(), labels=OBJECTS, output="softmax", truth=_truth())
    errors, _ = generator_errors(pool, plan, concepts, [aside], Measured(*[np.zeros((0, 0))] * 2, None), None)  # type: ignore[arg-type]
    # All cells are as the truth says; beside an effect of another quantity the growth was .5, and .09 with six objects.
    assert errors["background"].b <= 0.1 and errors["background"].a < 0.1
