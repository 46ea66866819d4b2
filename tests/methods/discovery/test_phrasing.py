"""The error between phrasings: found where it is, absent where it is not, and held by intervals."""

import numpy as np
import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.phrasing import phrasing_errors, together
from diffexplain_fast.methods.discovery.plan import CONTEXT, Plan
from diffexplain_fast.methods.discovery.target_units import with_generator_error
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import Rule, estimate, judge
from diffexplain_fast.stats.decisions import looks
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.generator import GeneratorError

CONCEPTS = Concepts({"background": ["desert", "snow", "sea", "grass", "night"], "colour": ["red", "blue", "green"]})
LEVELS, PICTURES, TARGETS = (5, 3), 384, 8


def trial(seed: int, spread: float, phrasings: int = 4) -> tuple[Plan, np.ndarray]:
    """Return a trial in which every phrasing adds an effect of its own to every background; no effect on average."""
    rng = np.random.default_rng(seed)
    design = balanced_design(LEVELS, PICTURES, seed, 0.0)
    phrasing = rng.permutation(np.arange(PICTURES) % phrasings)
    own = spread * rng.standard_normal((phrasings, LEVELS[0], TARGETS))
    values = own[phrasing, design[:, 0]] + 0.5 * rng.standard_normal((PICTURES, TARGETS))
    captions = tuple(str(picture) for picture in range(PICTURES))
    return Plan(CONTEXT, captions, Asked(design, LEVELS, 2), phrasing), values


def test_the_error_of_the_mean_over_the_phrasings_is_found() -> None:
    found = [phrasing_errors(*trial(seed, 0.6), CONCEPTS) for seed in range(6)]
    assert np.mean([one["background"].a for one in found]) == pytest.approx(0.3, abs=0.06)  # .6 over the root of 4
    assert np.mean([one["colour"].a for one in found]) < 0.06
    none = [phrasing_errors(*trial(seed, 0.0), CONCEPTS)["background"] for seed in range(6)]
    assert max(one.a for one in none) < 0.05


def test_intervals_hold_the_effect_over_all_phrasings() -> None:
    plain, wide = [], []
    for seed in range(10):
        plan, values = trial(seed, 0.6)
        estimated = estimate(plan.asked, values, [None] * TARGETS, PICTURES)
        judged = judge(plan.asked, estimated, Rule(looks(PICTURES), 0.5, 0.05, "fdr", 0), 0.015)
        widened = with_generator_error(judged, plan, CONCEPTS, phrasing_errors(plan, values, CONCEPTS))
        for found, inside in ((judged, plain), (widened, wide)):
            inside += ((found.low[:5] <= 0) & (found.high[:5] >= 0)).ravel().tolist()
    assert np.mean(wide) >= 0.93 and np.mean(plain) < 0.8


def test_few_phrasings_or_pictures_tell_nothing() -> None:
    assert phrasing_errors(*trial(0, 0.6, phrasings=2), CONCEPTS) == {}
    plan, values = trial(0, 0.6)
    assert phrasing_errors(plan.first(64), values[:64], CONCEPTS) == {}


def test_two_sources_add_their_squares() -> None:
    both = together(
        {"colour": GeneratorError(0.3, 0.0)}, {"colour": GeneratorError(0.4, 0.2), "size": GeneratorError(1, 0)}
    )
    assert both == {"colour": (pytest.approx(0.5), pytest.approx(0.2)), "size": (1, 0)}
