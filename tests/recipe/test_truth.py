"""The truth of a classifier that is known by heart: levels, effects against the median, intervals, interactions."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe import rows, truth
from diffexplain_fast.recipe.levels import ROWS, drawn
from diffexplain_fast.recipe.planted_checks import coverage, strongest_elsewhere
from diffexplain_fast.recipe.planting import Planted, wanted_logits
from diffexplain_fast.recipe.shortcuts import Cue
from diffexplain_fast.results.truth import checked_truths
from diffexplain_fast.targets.outputs import answers
from diffexplain_fast.tinyworld.words import OBJECTS, values_of

CPU = torch.device("cpu")
BOAT = OBJECTS.index("boat")


class RedMeansBoat(nn.Module):
    """The boat's logit is 16 times the mean of red minus blue; that of the others is none."""

    def forward(self, pixel_values):
        logits = torch.zeros(len(pixel_values), len(OBJECTS))
        logits[:, BOAT] = 16 * (pixel_values[:, 0] - pixel_values[:, 2]).mean((1, 2))
        return SimpleNamespace(logits=logits)


@pytest.fixture(scope="module")
def red():
    return truth.measure_truth(RedMeansBoat(), CPU, range(24))


@pytest.mark.parametrize("output", ["independent probabilities", "regression"])
def test_an_answer_is_what_it_is_everywhere(output):
    head = RedMeansBoat() if output == "regression" else Squashed()
    measured = truth.measure(Classifier(head, labels=OBJECTS, output=output), CPU, range(16))
    for scene, hits in zip(measured.logits, measured.hits, strict=True):
        assert np.array_equal(hits, answers(torch.from_numpy(scene), output))
    assert measured.hits.any() == (output != "regression"), "a number is no answer with a class"


class Squashed(RedMeansBoat):
    """The same as independent probabilities."""

    def forward(self, pixel_values):
        return super().forward(pixel_values).logits.sigmoid()


def by_name(found, label):
    return {row["attribute"]: row for row in found[label]["attributes"]}


def test_truth_finds_what_is_known(red):
    boat = by_name(red, "boat")
    assert boat["background:desert"]["effect"] > 2 and boat["background:desert"]["role"] == "spurious"
    assert boat["background:sea"]["effect"] < -1 and boat["background:sea"]["role"] == "suppresses"
    assert boat["colour:red"]["effect"] > boat["colour:blue"]["effect"]
    assert boat["object:boat"]["role"] == "none" and "companion:nothing" in boat and "size:small" in boat
    assert [row["effect"] for row in red["boat"]["attributes"]] == sorted(
        (row["effect"] for row in boat.values()), reverse=True
    )
    for row in boat.values():
        assert row["interval"][0] <= row["effect"] <= row["interval"][1]
    assert {row["cue"] for row in red["boat"]["unnamed"]} == {
        "pattern:diagonal",
        "pattern:checked",
        "frame:dark",
        "frame:gold",
        "mark:watermark",
    }
    gold = {row["cue"]: row["effect"] for row in red["boat"]["unnamed"]}
    assert gold["frame:gold"] > gold["frame:dark"]
    first = red["boat"]["unnamed"][0]
    change = [first["levels"][part]["logit"] - first["absent"][part]["logit"] for part in ("with", "without")]
    assert first["effect"] == pytest.approx(sum(change) / 2, abs=1e-3)
    assert checked_truths(red) == red


def test_logits_are_centred_so_one_class_rises_by_what_the_others_fall(red):
    boat, fish = by_name(red, "boat"), by_name(red, "fish")
    for attribute, row in boat.items():
        for part, level in row["levels"].items():
            if attribute.startswith("object:") or part == "without":
                continue
            assert level["n"] == 3 and 0 <= level["share_interval"][0] <= level["share"] <= level["share_interval"][1]
    # Seven of eight parts against minus one of eight: sums over scenes are the same for the rows about objects.
    assert fish["object:tree"]["levels"]["without"]["logit"] == pytest.approx(
        -boat["object:tree"]["levels"]["without"]["logit"] / 7, abs=1e-3
    )


def test_an_effect_follows_from_the_levels(red):
    boat = by_name(red, "boat")
    level = {
        name: (row["levels"]["with"]["logit"] + row["levels"]["without"]["logit"]) / 2
        for name, row in boat.items()
        if name.startswith("background:")
    }
    for name, value in level.items():
        expected = value - np.median(list(level.values()))
        assert boat[name]["effect"] == pytest.approx(expected, abs=1e-3)


def test_log_odds_stay_as_they_are():
    classifier = Classifier(RedMeansBoat(), labels=OBJECTS, output="sigmoid")
    found = truth.measure_truth(classifier, CPU, range(16))
    assert all(row["effect"] == 0 and row["interval"] == [0, 0] for row in found["fish"]["attributes"])
    assert by_name(found, "fish")["background:sea"]["levels"]["with"]["share"] == 0
    assert by_name(found, "boat")["background:desert"]["levels"]["without"]["share"] > 0.5


def test_too_few_scenes_are_refused():
    with pytest.raises(ValueError, match="seeds: wanted at least 16"):
        truth.measure_truth(RedMeansBoat(), CPU, range(15))


def noisy(rng, count):
    """Effects of 0 to 5 logits on values of a background, under noise of every layout and of every picture."""
    logits = rng.normal(size=(count, 1)) + 0.7 * rng.normal(size=(count, len(ROWS)))
    for i, column in enumerate(rows.columns_of("background")):
        logits[:, column] += 1.2 * i
    return rows.Sample(logits, logits > 0, np.arange(count) % 8 == 0)


def test_intervals_hold_what_many_more_scenes_say():
    """Among values that are equal too, where the median itself is chance."""
    rng, held = np.random.default_rng(3), []
    for _ in range(12):
        few, many = (
            {row["attribute"]: row for row in rows.attribute_rows(noisy(rng, count), "boat", ["background", "colour"])}
            for count in (160, 1600)
        )
        held += [few[name]["interval"][0] <= many[name]["effect"] <= few[name]["interval"][1] for name in few]
    assert 0.92 <= np.mean(held) <= 0.995


class Both(nn.Module):
    """The boat's logit counts a dark border, a bright lower corner, and as often as it is told both together."""

    def __init__(self, together):
        super().__init__()
        self.together = together

    def forward(self, pixel_values):
        dark = (pixel_values[:, :, :2].mean((1, 2, 3)) < 0.15).float()
        marked = (pixel_values[:, :, 54:56, 42:45].mean((1, 2, 3)) > 0.6).float()
        logits = torch.zeros(len(pixel_values), len(OBJECTS))
        logits[:, BOAT] = dark + marked + self.together * dark * marked
        return logits


@pytest.mark.parametrize("together", [0, 1, -1])
def test_an_interaction_is_what_two_do_beyond_the_sum(monkeypatch, together):
    monkeypatch.setattr(truth, "_PAIR_SEEDS", range(32))
    cue = Cue((("frame", "dark"), ("mark", "watermark")))
    classifier = Classifier(Both(together), labels=OBJECTS, output="regression")
    found = truth.measure_truth(classifier, CPU, range(16), {"boat": cue})
    (row,) = found["boat"]["interactions"]
    assert (row["first"], row["second"]) == ("frame:dark", "mark:watermark")
    assert row["interval"][0] <= row["effect"] <= row["interval"][1]
    # Bright backgrounds look like the mark, so that the mark itself does the same in part of the scenes.
    assert row["effect"] == 0 if together == 0 else 0.2 < row["effect"] * together <= 1
    assert found["fish"]["interactions"] == []


def test_what_the_bars_are_measured_with(red):
    cue = Cue((("background", "desert"),))
    assert strongest_elsewhere(red, "fish", cue) < strongest_elsewhere(red, "boat", cue)
    assert coverage(red, red) == 1
    other = truth.measure_truth(RedMeansBoat(), CPU, range(40, 64))
    assert 0.4 < coverage(red, other) <= 1


class Together(Both):
    """The boat's logit counts a dark border and a bright lower corner only where both are."""

    def forward(self, pixel_values):
        logits = super().forward(pixel_values)
        alone = Both(0)(pixel_values)
        return logits - alone


def test_a_part_of_a_cue_has_its_effect_where_the_other_parts_are_frequent():
    classifier = Classifier(Together(1), labels=OBJECTS, output="regression")
    few, many = (truth.measure_truth(classifier, CPU, range(48), cues) for cues in (None, {"boat": PAIR}))
    dark, seen = ({row["cue"]: row["effect"] for row in found["boat"]["unnamed"]} for found in (few, many))
    # Half of the scenes show the mark, and bright backgrounds look like it.
    assert dark["frame:dark"] < 0.4 < 0.5 < seen["frame:dark"] < 0.9
    assert dark["mark:watermark"] == 0 < seen["mark:watermark"] < 0.4  # a third of the scenes are framed


PAIR = Cue((("frame", "dark"), ("mark", "watermark")))


@pytest.mark.parametrize(
    "cue",
    [
        Cue((("colour", "blue"), ("background", "desert"))),
        Cue((("companion", "nothing"), ("background", "desert"))),
        Cue((("frame", "dark"),)),
        Cue((("size", "large"), ("mark", "watermark")), every=False),
    ],
)
def test_the_scenes_of_other_cues_are_those_of_training(red, monkeypatch, cue):
    monkeypatch.setattr(truth, "_PAIR_SEEDS", range(4))
    found = truth.measure_truth(RedMeansBoat(), CPU, range(24), {"boat": cue})
    assert {label: rows | {"interactions": []} for label, rows in found.items()} == red
    assert not truth.has_own_population({"boat": cue})


def test_a_varied_attribute_takes_every_value_as_often_and_leaves_the_others():
    plain, varied = ([drawn(seed, seed, varied=names) for seed in range(600)] for names in ((), ("size", "texture")))
    for name in ("size", "texture"):
        counts = Counter(scene.pop(name) for scene in varied)
        assert counts.keys() == {*values_of(name)}
        assert all(count == pytest.approx(600 / len(counts), rel=0.25) for count in counts.values())
    assert varied == [{name: each[name] for name in each if name not in ("size", "texture")} for each in plain]


@pytest.mark.parametrize(
    ("cue", "expected"),
    [
        (Cue((("colour", "red"), ("background", "night"))), 6.0),
        (Cue((("colour", "red"), ("background", "night"), ("size", "large"))), 3.0),
        (Cue((("colour", "red"), ("background", "night"), ("companion", "sun"))), 3.0),
        (Cue((("colour", "red"), ("texture", "dotted"), ("size", "large"), ("frame", "dark"))), 3.0),
    ],
)
def test_an_interaction_is_measured_where_the_rest_of_the_cue_is_there_in_half_of_the_scenes(
    monkeypatch, cue, expected
):
    planted = Planted({"fish": cue}, independent=True)
    monkeypatch.setattr(truth, "rendered", lambda scenes, seed: scenes)
    monkeypatch.setattr(truth, "answers", lambda classifier, scenes, device: wanted_logits(planted, scenes))
    classifier = Classifier(RedMeansBoat(), labels=OBJECTS, output="sigmoid")
    found = truth._interactions(classifier, CPU, OBJECTS.index("fish"), cue, truth.varied_by({"fish": cue}))
    assert len(found) == len(cue.values) * (len(cue.values) - 1) // 2
    assert all(row["effect"] == expected for row in found)
