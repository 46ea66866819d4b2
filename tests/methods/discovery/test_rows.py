"""Rows, verdicts and sentences of trials whose truth is made up."""

from dataclasses import replace

import numpy as np
import pytest

from diffexplain_fast.evidence.concept_names import spoken
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.own import declarations, own_concept
from diffexplain_fast.methods.discovery.rows import Trial, rows_of
from diffexplain_fast.methods.discovery.sentences import effect_clause
from diffexplain_fast.methods.discovery.verdicts import verdicts_of
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.results.decision import decide
from diffexplain_fast.stats.cells import Rule, estimate, judge
from tests.auditing import GROUPS, made_up
from tests.tiny import LABELS

PLANTED = {("fish", "background:desert"): 5.0, ("house", "object:house"): 0.0}


@pytest.fixture(scope="module")
def trial() -> Trial:
    """Return a trial: desert makes fish, and a house is not what makes a house."""
    return made_up(PLANTED)


@pytest.fixture(scope="module")
def rows(trial: Trial) -> dict[tuple[str, str], AuditRow]:
    """Return the rows by target and concept."""
    return {(row.target, row.concept): row for row in rows_of(trial)}


def test_there_is_a_row_for_every_target_and_concept(rows: dict[tuple[str, str], AuditRow]) -> None:
    assert len(rows) == 4 * sum(map(len, GROUPS.values()))


def test_planted_effects_are_found_with_their_roles(rows: dict[tuple[str, str], AuditRow]) -> None:
    # Centred over four classes: an effect of 5 on one logit is 3.75 on the centred one, and -1.25 on the others.
    fish = rows["fish", "background:desert"]
    assert fish.finding and fish.role == "spurious" and fish.declared_by is None
    assert fish.low < 3.75 < fish.high and fish.high - fish.low < 1
    assert rows["boat", "background:desert"].role == "suppresses"  # the logits are centred
    own = rows["tree", "object:tree"]
    assert own.role == "core" and own.declared_by == "label"
    assert rows["house", "object:house"].role in ("none", "undecided", "small")
    assert rows["tree", "colour:red"].role == "none" and not rows["tree", "colour:red"].finding
    assert fish.adjusted_p < 1e-6 and fish.tipping_point == pytest.approx(fish.low - 0.5)
    assert rows["tree", "colour:red"].tipping_point is None


def test_answers_are_shares_of_pictures_without_the_own_object(
    trial: Trial, rows: dict[tuple[str, str], AuditRow]
) -> None:
    row, named = rows["fish", "background:desert"], trial.plan.asked.named
    desert, fish = (named[:, trial.concepts.names.index(name)] for name in ("background:desert", "object:fish"))
    hits = trial.data.hits[:, 1]
    assert row.answered_with == pytest.approx(hits[desert & ~fish].mean(), abs=0.05)
    assert row.answered_without == pytest.approx(hits[~desert & ~fish].mean(), abs=0.05)
    assert row.accuracy_with == pytest.approx(hits[desert & fish].mean(), abs=0.05)
    assert row.points_low is not None and row.points_high is not None
    assert row.answered_with is not None and row.answered_without is not None
    assert row.points_low < row.answered_with - row.answered_without < row.points_high


def test_effects_with_and_without_the_own_object_stand_beside_the_average(
    rows: dict[tuple[str, str], AuditRow],
) -> None:
    row = rows["fish", "background:desert"]
    assert row.own_effect == pytest.approx(3.75, abs=0.6) and row.other_effect == pytest.approx(3.75, abs=0.3)
    assert row.own_low is not None and row.other_low is not None
    assert row.own_low < row.own_effect and row.other_low < row.other_effect


def test_few_pictures_of_the_own_object_have_effects_without_intervals() -> None:
    # Six pictures of the own object: snow and sea are asked for once each, so that nothing tells how sure they are.
    trial = made_up(
        {("fish", "background:desert"): 5.0}, 24, concepts=Concepts({"background": ["desert", "snow", "sea"]})
    )
    own = trial.plan.first(6)
    design = np.array([[0], [-1], [1], [2], [0], [-1]])
    own = replace(own, asked=replace(own.asked, design=design))
    data = replace(trial.data, values=trial.data.values[:6], hits=trial.data.hits[:6])
    found = rows_of(replace(trial, own={1: (own, data)}))
    few = [row for row in found if row.target == LABELS[1]]
    assert all(row.own_effect is not None and row.own_low is None and row.own_high is None for row in few)
    alone = replace(trial.plan.asked, design=np.array([[0], [-1], [1], [2], [-1], [-1]]))
    values, delta = trial.data.values[:6], Rule((), 0.5, 0.05, "fdr", 0)
    judged = judge(alone, estimate(alone, values, [None] * 4, 6), delta, 0.05)
    assert np.isnan(judged.low).all() and np.isnan(judged.high).all() and (judged.names == "undecided").all()
    assert np.isfinite(judged.estimate).all()


def test_verdicts_name_the_concepts(trial: Trial) -> None:
    found = verdicts_of(trial, rows_of(trial), [])
    assert found["fish"].kind == "both" and found["fish"].concepts[:2] == ["background:desert", "object:fish"]
    assert found["tree"].kind == "core" and found["tree"].concepts == ["object:tree"]
    assert found["tree"].suppressed_by == ["background:desert"]
    assert "Suppressed by desert" in found["tree"].sentence
    assert found["house"].kind in ("undecided", "not elicited") and found["house"].concepts == []


def test_the_sentence_says_the_numbers_of_the_row(rows: dict[tuple[str, str], AuditRow]) -> None:
    row = rows["fish", "background:desert"]
    assert row.answered_with is not None and row.answered_without is not None
    clause = effect_clause(row)
    assert 0.995 < row.answered_with < 1  # so that a digit more is printed
    assert clause.startswith(f"answers fish in {100 * row.answered_with:.1f} % of desert pictures and in ")
    assert "of others without a fish (+" in clause and " points [" in clause
    assert "of others (" in effect_clause(rows["tree", "object:tree"])


def test_points_that_may_be_0_are_told_with_the_effect_that_was_tested(
    rows: dict[tuple[str, str], AuditRow], trial: Trial
) -> None:
    row = replace(rows["fish", "background:desert"], effect=5.79, low=5.5, high=6.0, points_low=-0.08, points_high=0.12)
    assert effect_clause(row, unit="log-odds").endswith(" [-8.0, 12.0]; +5.79 log-odds [5.50, 6.00])")
    assert "log-odds" not in effect_clause(replace(row, points_low=0.02), unit="log-odds")
    blind = [replace(one, points_low=-0.1, points_high=0.9) if one.finding else one for one in rows.values()]
    several = replace(trial, readout=replace(trial.readout, classifier=Classifier(abs, output="sigmoid")))
    sentence = verdicts_of(several, blind, [])["fish"].sentence
    assert f"; {rows['fish', 'background:desert'].effect:+.2f} log-odds [" in sentence


def test_points_against_an_effect_are_told_with_it(rows: dict[tuple[str, str], AuditRow], trial: Trial) -> None:
    numbers = {"effect": 1.45, "low": 0.6, "high": 2.3, "points_low": -0.24, "points_high": -0.01}
    row = replace(rows["fish", "background:desert"], answered_with=0.16, answered_without=0.28, **numbers)
    end = "(-12 points [-24, -1]; against these points, the effect that was tested is +1.45 logits [0.60, 2.30])"
    assert effect_clause(row).endswith(end)
    wide = effect_clause(replace(row, low=-1.0, points_low=0.1, points_high=0.2))
    assert wide.endswith(
        "; +1.45 logits [-1.00, 2.30], which holds 0 because it has more errors than those of the test)"
    )
    falling = replace(row, role="suppresses", effect=-1.45, low=-2.3, high=-0.6, points_low=0.01, points_high=0.24)
    falling = replace(falling, target="tree", concept="background:desert")
    kept = [falling if (one.target, one.concept) == ("tree", "background:desert") else one for one in rows.values()]
    told = "Suppressed by desert (-1.45 logits [-2.30, -0.60], though it is answered more often there)."
    assert verdicts_of(trial, kept, [])["tree"].sentence.endswith(told)


def test_of_two_values_the_sentence_does_not_take_the_median_for_the_other_one() -> None:
    concepts = Concepts({"object": ["fish", "tree", "boat"], "background": ["desert", "snow"]})
    trial = made_up({("fish", "background:desert"): 9.0}, concepts=concepts)
    found = rows_of(trial)
    row = next(row for row in found if (row.target, row.concept) == ("fish", "background:desert"))
    assert row.answered_with == pytest.approx(1) and row.answered_without == pytest.approx(0.6, abs=0.15)
    sentence = verdicts_of(trial, found, [])["fish"].sentence
    without = f"{100 * row.answered_without:.0f} % of those with either background without a fish"
    assert f"answers fish in 100 % of desert pictures and in {without} (+" in sentence
    assert row.points_low is not None and row.points_high is not None
    assert row.points_low < row.answered_with - row.answered_without <= row.points_high <= 0.5


def test_a_user_declares_what_is_core() -> None:
    concepts = Concepts(GROUPS, core={"fish": ["background:desert"]})
    trial = made_up(PLANTED, concepts=concepts)
    row = next(row for row in rows_of(trial) if (row.target, row.concept) == ("fish", "background:desert"))
    assert row.role == "core" and row.declared_by == "user"
    assert verdicts_of(trial, rows_of(trial), [])["fish"].kind == "core"


def test_a_word_that_no_eye_sees_is_not_drawable() -> None:
    plan = made_up(PLANTED).plan
    seen = plan.asked.named.astype(float)
    names = Concepts(GROUPS).names
    for concept in ("background:snow", "object:house"):
        seen[:, names.index(concept)] = 0.0
    trial = made_up(PLANTED, seen=seen)
    rows = {(row.target, row.concept): row for row in rows_of(trial)}
    assert rows["tree", "background:snow"].role == "not drawable" and rows["tree", "background:snow"].obeyed == 0
    assert rows["fish", "background:desert"].role == "spurious" and rows["fish", "background:desert"].obeyed == 1
    assert verdicts_of(trial, rows_of(trial), [])["house"].kind == "not drawable"


def test_a_class_that_is_never_answered_is_not_elicited() -> None:
    trial = made_up({("house", "object:house"): 0.0, ("house", "background:desert"): 0.0}, noise=0.3)
    trial.data.hits[:, 3] = False
    assert verdicts_of(trial, rows_of(trial), [])["house"].kind == "not elicited"


@pytest.mark.parametrize("change", [{"labels": (None,) * 4}, {"classifier": Classifier(abs, output="regression")}])
def test_a_target_without_answers_has_none_in_its_sentence(change: dict) -> None:
    trial = made_up({("house", "object:house"): 0.0}, noise=0.3)
    trial.data.hits[:, trial.readout.names.index("house")] = True
    assert "pictures are answered house" in verdicts_of(trial, rows_of(trial), [])["house"].sentence
    number = replace(trial, readout=replace(trial.readout, **change))
    sentence = verdicts_of(number, rows_of(number), [])["house"].sentence
    assert sentence == "house: Undecided: no concept has an effect above the minimal one."


def test_free_words_are_compared_with_their_absence() -> None:
    concepts = Concepts(GROUPS, words=["striped", "sun", "flag", "kite"])
    trial = made_up({("fish", "word:sun"): 4.0}, concepts=concepts)
    rows = {row.concept: row for row in rows_of(trial) if row.target == "fish"}
    assert len(rows) == len(concepts.names)
    assert rows["word:sun"].role == "spurious" and rows["word:sun"].low < 3 < rows["word:sun"].high
    assert rows["word:kite"].role == "none" and rows["word:sun"].pictures == pytest.approx(192, abs=30)


def test_own_concepts_are_found_by_synonyms() -> None:
    concepts = Concepts({"object": ["tench", "fish"]})
    assert own_concept(concepts, "Tench, Tinca tinca") == 0 and own_concept(concepts, "goldfish") is None
    assert own_concept(concepts, None) is None
    assert spoken("tiger_cat, tigress") == "tiger cat"


@pytest.mark.parametrize(
    "label", ["great_white_shark", "Great White Shark", "great-white_shark", "a, great_white_shark"]
)
def test_own_concepts_and_declared_ones_are_found_as_they_are_spoken(label: str) -> None:
    concepts = Concepts(
        {"object": ["boat", "great white shark"], "background": ["sea", "snow"]},
        core={label.replace("_", " "): ["background:sea"]},
    )
    assert declarations(concepts, label) == [None, "label", "user", None]
    assert declarations(concepts, "boat") == ["label", None, None, None]
    concepts.check_labels([label, "boat"])  # without a warning: the class is there, as it is spoken
    exact = Concepts(concepts.groups, core={"red boat": ["background:sea"], "red_boat": ["background:snow"]})
    assert declarations(exact, "red_boat")[2:] == [None, "user"]
    assert own_concept(Concepts({"object": ["red_boat", "tree"]}), "red boat") == 0


def test_a_shift_of_all_logits_changes_nothing() -> None:
    trial = made_up(PLANTED)
    shifted = made_up(PLANTED)
    logits = shifted.data.values + 7 * np.arange(len(shifted.data.values))[:, None]
    shifted.data.values[:] = logits - logits.mean(1, keepdims=True)
    for ours, theirs in zip(rows_of(trial), rows_of(shifted), strict=True):
        assert ours.effect == pytest.approx(theirs.effect, abs=1e-9)


@pytest.mark.parametrize("name", ["ClassProbability(fish)", "ClassProbability(fish (1))"])
def test_pictures_are_answered_with_the_class_of_a_target_with_a_name_of_its_own(trial: Trial, name: str) -> None:
    names = tuple(f"ClassProbability({label})" if label != "fish" else name for label in LABELS)
    named = replace(trial, readout=replace(trial.readout, names=names))
    said, answer = verdicts_of(named, rows_of(named), []), name[len("ClassProbability(") : -1]
    sentence = said[name].sentence
    assert sentence.startswith(f"{name}: Its own object and a shortcut: answers {answer} in ")
    assert f" of others without a {answer} (+" in sentence and sentence.count(name) == 1
    house = said["ClassProbability(house)"].sentence
    assert " are answered house. Suppressed" in house and house.count("ClassProbability") == 1


def test_shares_that_are_none_or_all_are_exactly_that() -> None:
    # The logits are nearly without noise: in the desert every picture is a fish, elsewhere its own object's.
    trial = made_up({("fish", "background:desert"): 50.0}, noise=0.01)
    rows = rows_of(trial)
    by = {(row.target, row.concept): row for row in rows}
    fish, snow = by["fish", "background:desert"], by["fish", "background:snow"]
    boat = by["boat", "background:snow"]
    assert (fish.answered_with, fish.answered_without, fish.points_high) == (1, 0, 1)
    assert (snow.answered_with, snow.accuracy_with) == (0, 1)
    assert (boat.answered_with, boat.accuracy_with, boat.accuracy_without) == (0, 1, 1)
    shares = [share for row in rows for share in (row.answered_with, row.answered_without, row.accuracy_with)]
    assert not [share for share in shares if share is not None and (0 < share < 1e-9 or 1 - 1e-9 < share < 1)]
    assert "answers fish in 100 % of desert pictures and in 0 % of others" in effect_clause(fish)
    assert not decide("worst_group<1", [row for row in rows if row.target == "fish"], None)[0].failed
