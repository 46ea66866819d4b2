"""What captions let expect: quasi-independence by hand, shares that are no story, few pictures with a poor eye."""

import numpy as np
import pytest

from diffexplain_fast.stats.coding import columns
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import against_median
from diffexplain_fast.stats.first_stage import first_stage, quasi_independent
from diffexplain_fast.stats.instruments import anderson_rubin, corrected, showing
from diffexplain_fast.stats.words import Words

VALUES = 8


def told(obeyed: np.ndarray, habit: np.ndarray, values: np.ndarray) -> np.ndarray:
    shares = (1 - obeyed)[:, None] * habit
    shares[np.arange(len(values)), values] += obeyed
    return shares


def test_shares_that_are_quasi_independent_stay() -> None:
    habit = np.array([0.4, 0.3, 0.2, 0.1])
    values = np.array([0, 0, 1, 2, 3])  # the first value has two words
    shares = told(np.array([0.9, 0.2, 0.5, 0.0, 1.0]), habit, values)
    found, free = quasi_independent(shares, values)
    assert np.allclose(found, shares, atol=1e-6) and free == 5 * 3 - 5 - 3


def test_two_values_are_any_shares() -> None:
    shares = np.array([[0.7, 0.3], [0.1, 0.9]])
    found, free = quasi_independent(shares, np.array([0, 1]))
    assert free < 0 and np.allclose(found, shares)


@pytest.mark.parametrize(("stray", "closer"), [(0.0, 0.75), (1.0, 1.1)])
def test_counts_are_shrunk_as_far_as_the_story_fits(stray: float, closer: float) -> None:
    # With stray 1 what is not obeyed shows the next value, which no habit explains: then the counts stay.
    asked = balanced_design([VALUES], 400, 3)
    words, errors = Words.one_each(asked, [VALUES]), []
    for seed in range(8):
        random = np.random.default_rng(seed)
        word = asked[:, 0]
        other = np.where(random.random(400) < stray, (word + 1) % VALUES, random.integers(0, VALUES, 400))
        shown = np.where((word >= 0) & (random.random(400) < 0.5), word, other)
        truth = 0.5 * np.eye(VALUES)
        truth += 0.5 * (stray * np.roll(np.eye(VALUES), 1, 1) + (1 - stray) / VALUES)
        expected = first_stage(words, [np.eye(VALUES)[shown]], np.zeros((400, 1))).expected[0]
        assert expected is not None
        named = [np.flatnonzero(word == value) for value in range(VALUES)]
        counts = np.stack([np.eye(VALUES)[shown[rows]].mean(0) for rows in named])
        guess = np.stack([expected[rows[0]] for rows in named])
        errors.append([((one - truth) ** 2).mean() for one in (guess, counts)])
    guessed, counted = np.mean(errors, 0)
    assert guessed < closer * counted


@pytest.mark.parametrize("hidden", [0.0, 1.5])
def test_effects_of_few_pictures_with_a_poor_eye_do_not_lean(hidden: float) -> None:
    # 24 captions a value, half disobeyed, a third of the eye's answers chance: two-stage least squares with one
    # count a word finds .85 of the effect. Something hidden that makes a picture obey and moves the outcome too changes
    # nothing.
    levels, found = (VALUES, VALUES), []
    asked = balanced_design(levels, 216, 5)
    words = Words.one_each(asked, levels)
    for seed in range(48):
        random = np.random.default_rng(seed)
        outcomes, shown = random.normal(0, 1, (216, 1)), []
        for group in range(2):
            obeys = (asked[:, group] >= 0) & (random.random(216) < 0.5)
            outcomes[:, 0] += hidden * obeys
            value = np.where(obeys, asked[:, group], random.integers(0, VALUES, 216))
            outcomes[:, 0] += 6.0 * ((value == 2) & (group == 0))
            wrong = random.random(216) < 1 / 3
            saw = np.where(wrong, random.integers(0, VALUES, 216), value)
            shown.append(corrected(np.eye(VALUES)[saw], np.full((VALUES, VALUES), 1 / 24) + np.eye(VALUES) * 2 / 3))
        means = showing(words, shown, outcomes).means[:VALUES, 0]
        found.append(means[2] - np.delete(means, 2).mean())
    assert np.mean(found) == pytest.approx(6, abs=2.5 * np.std(found) / 48**0.5) and np.std(found) < 2.5


def test_what_is_added_to_a_picture_is_told_by_the_other_pictures_only() -> None:
    # Three captions a word, where a picture's own word average holds a third of its own outcome.
    random = np.random.default_rng(0)
    asked = np.arange(24)[:, None] % VALUES
    shown, outcomes, weights = random.random((24, VALUES)), random.normal(size=(24, 2)), random.uniform(0.5, 2, 24)
    words = Words.one_each(asked, [VALUES])
    stage, root = first_stage(words, [shown], outcomes, weights), np.sqrt(weights)[:, None]
    more = stage.more[0]
    assert more is not None
    z = columns(asked, [VALUES]) * root
    for left_out in range(24):
        kept = np.arange(24) != left_out
        both = np.concatenate([z, more * root], 1)[kept]
        known = np.linalg.pinv(both, rcond=1e-8) @ (outcomes * root)[kept]
        # Only what lies within the words tells; the least-norm solution has the same there.
        alone = more[kept] * root[kept] - z[kept] @ (np.linalg.pinv(z[kept], rcond=1e-9) @ (more * root)[kept])
        within = np.linalg.pinv(alone, rcond=1e-6) @ (outcomes * root)[kept]
        assert np.allclose(alone @ within, alone @ known[z.shape[1] :], atol=1e-6)
        assert np.allclose(stage.added[left_out], more[left_out] @ within, atol=1e-6)


@pytest.mark.parametrize("shown", [np.full((48, 3), np.nan), np.ones((5, 3)), np.ones((48, 2))])
def test_what_is_shown_is_refused_by_name(shown: np.ndarray) -> None:
    words = Words.one_each(balanced_design([3], 48, 0), [3])
    with pytest.raises(ValueError, match=r"shown\[0\]: wanted finite numbers \[48, 3\]"):
        showing(words, [shown], np.ones((48, 1)))


def test_a_group_that_is_told_by_what_is_asked_has_no_stage() -> None:
    asked = balanced_design([3, 4], 48, 0)
    stage = first_stage(Words.one_each(asked, [3, 4]), [None, None], np.ones((48, 2)))
    assert stage.expected == [None, None] and stage.more == [None, None] and not stage.added.any()


def test_weights_count_in_what_is_expected() -> None:
    asked = np.array([[0], [0], [1], [1], [-1], [-1]])
    shown = np.eye(2)[[0, 1, 1, 1, 0, 1]]
    weights = np.array([3.0, 1, 1, 1, 1, 3])
    expected = first_stage(Words.one_each(asked, [2]), [shown], np.ones((6, 1)), weights).expected[0]
    assert expected is not None
    assert np.allclose(expected, [[0.75, 0.25]] * 2 + [[0, 1]] * 2 + [[0.25, 0.75]] * 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("eye", ["always the same", "right", "chance"])
@pytest.mark.parametrize("asked", ["all", "one value", "never"])
def test_what_is_never_seen_or_never_asked_gives_numbers_and_no_warning(eye: str, asked: str) -> None:
    random = np.random.default_rng(0)
    design = balanced_design([4, 3, 1], 60, 1)
    design[:, 0] = {"all": design[:, 0], "one value": 0 * design[:, 0], "never": 0 * design[:, 0] - 1}[asked]
    words = Words(design, ((0, 1, 2, 3), (0, 1, 2), (0,)))
    seen = {
        "always the same": np.zeros(60, int),
        "right": np.maximum(design[:, 0], 0),
        "chance": random.integers(4, size=60),
    }
    outcomes = random.normal(size=(60, 2))
    fit = showing(words, [np.eye(4)[seen[eye]], np.eye(3)[np.maximum(design[:, 1], 0)], np.ones((60, 1))], outcomes)
    effects = against_median(fit)
    low, high = anderson_rubin(fit, effects)
    assert np.isfinite(fit.means[fit.pictures > 0]).all() and np.isfinite(fit.residuals).all()
    assert np.isfinite(effects.estimate[4:7]).all() and (low[4:7] < high[4:7]).all()


@pytest.mark.parametrize(("obeyed", "pictures"), [(1.0, 200), (1.0, 60), (0.7, 60)])
def test_rounding_is_nothing_that_pictures_show_more(obeyed: float, pictures: int) -> None:
    # Words that are obeyed always and seen with an eye that errs, or about as many words as pictures: what is left
    # within one word is rounding, and a regression on it gave effects of 1e13.
    random, values, synonyms = np.random.default_rng(0), 5, 4
    asked = balanced_design((values * synonyms,) * 3, pictures, 5)
    words = Words(asked, (tuple(np.repeat(range(values), synonyms).tolist()),) * 3)
    shown = []
    for group in range(3):
        named = np.maximum(words.design[:, group], 0)
        other = random.integers(0, values, pictures)
        seen = np.where(random.random(pictures) < obeyed, named, other)
        shown.append(corrected(np.eye(values)[seen], 0.9 * np.eye(values) + 0.1 / values))
    outcomes = random.normal(0, 1, (pictures, 2))
    stage = first_stage(words, shown, outcomes)
    assert not stage.added.any() and (obeyed < 1 or not np.any(stage.more))
    asking = against_median(showing(words, [None] * 3, outcomes)).error
    assert (against_median(showing(words, shown, outcomes)).error < 2 * asking / obeyed).all()
