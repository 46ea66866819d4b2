"""Interventions with known effects, their placebos, and the clusters of their pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.photographs.intervened import Intervened, intervened, with_sentences
from diffexplain_fast.methods.photographs.interventions import checked_interventions, paired_answers
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.audit_rows import Verdict
from diffexplain_fast.results.decision import decide
from diffexplain_fast.stats.clustered import cluster_means, clustered_change
from diffexplain_fast.stats.effects import interval

CORE = Verdict("core", ["object:corner"], "corner: Its own object decides: answers corner in 64 %.")
LABELS = ("corner", "bright", "nothing", "noise")


def answers(pixels: Tensor) -> Tensor:
    """Answer "corner" to white in the upper left corner only, and "bright" to the mean."""
    corner = (pixels[:, :, :2, :2].mean((1, 2, 3)) > 0.95).float()
    zero = torch.zeros(len(pixels))
    return torch.stack([8 * corner, 20 * pixels.mean((1, 2, 3)), zero, zero], 1)


READOUT = Readout(Classifier(answers, labels=LABELS, output="softmax"), LABELS, LABELS, (0, 1, 2, 3), {})


def marked(picture: Tensor) -> Tensor:
    """Paint the upper left corner white."""
    picture[:, :2, :2] = 1
    return picture


def lighter(picture: Tensor) -> Tensor:
    """Make everything a little lighter."""
    return picture + 0.1


def measured(**interventions: object) -> Intervened:
    """Return what interventions do to twenty-four pictures in eight clusters."""
    pixels = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    functions = checked_interventions(interventions)
    paired = paired_answers([pixels[:10], pixels[10:]], READOUT, functions, lambda done: None)
    return intervened(paired, np.arange(24) // 3, READOUT, 0.5, 0.05)


def test_a_mark_is_told_from_its_mirror_image_and_a_hue_is_not() -> None:
    found = measured(mark=marked, light=lighter)
    rows = {(row.target, row.concept): row for row in found.rows}
    assert len(rows) == 4 * 6
    mark = rows["corner", "intervention:mark"]
    # Centred over four classes: 8 on one logit is 6, less a quarter of what the brightness of the mark adds.
    assert mark.finding and mark.role == "spurious" and 5 < mark.effect < 6 and mark.obeyed == 1
    assert mark.answered_with is not None and mark.answered_with > mark.answered_without  # type: ignore[operator]
    assert abs(rows["corner", "placebo:mark, mirrored"].effect) < 1
    assert "neither its mirror image nor a blank one does the same" in found.sentences["corner"]
    light = rows["bright", "intervention:light"]
    assert light.finding and "light, mirrored does the same" in found.sentences["bright"]
    assert found.flagged["light, blank"] > 0 and not any(row.finding for row in found.rows if row.concept[0] == "p")


def test_answers_that_an_intervention_raises_have_an_interval_and_fail_a_gate() -> None:
    found = measured(mark=marked)
    row = next(row for row in found.rows if (row.target, row.concept) == ("corner", "intervention:mark"))
    assert (row.answered_with, row.answered_without, row.points_high) == (1, 0, 1)
    low, _ = clustered_change(np.ones(24, dtype=bool), np.zeros(24, dtype=bool), np.arange(24) // 3)
    assert row.points_low == low and 0.4 < low < 0.6  # eight clusters that all change
    assert (
        f"; 0 % are answered corner without it and 100 % with it (+100 points [{100 * low:.0f}, 100])."
        in (found.sentences["corner"])
    )
    (one,) = decide("false_answers>0.1", found.rows, None)
    assert one.failed and one.value == low and "corner in pictures with intervention:mark" in one.sentence
    number = replace(READOUT, classifier=Classifier(answers, labels=LABELS, output="regression"))
    paired = paired_answers([torch.rand(24, 3, 8, 8)], number, {"mark": marked}, lambda done: None)
    rows = intervened(paired, np.arange(24), number, 0.5, 0.05).rows
    assert {(row.answered_with, row.points_low, row.points_high) for row in rows} == {(None, None, None)}


def test_verdicts_name_what_was_found() -> None:
    found = measured(mark=marked)
    verdicts = with_sentences({"corner": CORE}, found)
    assert verdicts["corner"].concepts == ["object:corner", "intervention:mark"] and verdicts["corner"].kind == "both"
    assert verdicts["corner"].sentence.startswith("corner: mark raises it by +5")
    assert verdicts["corner"].sentence.endswith(
        "100]). Without interventions its own object decides: answers corner in 64 %."
    )
    known = Verdict("spurious", ["background:sea"], "corner: A shortcut: answers corner in 64 %.")
    spurious = with_sentences({"corner": known}, found)["corner"]
    assert spurious.kind == "spurious" and spurious.concepts == ["background:sea", "intervention:mark"]
    assert spurious.sentence == f"{known.sentence} {found.sentences['corner']}"


NOTHING = "bright: Undecided: no concept has an effect above the minimal one, and 0 of 9 pictures are answered bright."


def test_what_lowers_a_target_suppresses_it_and_is_no_shortcut() -> None:
    found = measured(light=lambda picture: picture - 0.1, dark=lambda picture: picture - 0.2)
    rows = {row.concept: row for row in found.rows if row.target == "bright" and row.finding}
    assert all(row.role == "suppresses" for row in rows.values())
    dark = rows["intervention:dark"]
    told = f"bright: dark lowers it by {-dark.effect:.2f} [{-dark.high:.2f}, {-dark.low:.2f}] in 24 pictures; dark, "
    for known in ({}, {"bright": Verdict("undecided", [], NOTHING)}):
        one = with_sentences(known, found)["bright"]
        assert (one.kind, one.concepts) == ("undecided", [])
        assert one.suppressed_by == ["intervention:dark", "intervention:light"]
        assert one.sentence.startswith(told) and "-" not in one.sentence.partition("; 100 % are answered bright")[0]
        assert "; 100 % are answered bright without it and 100 % with it (+0 points [-28, 28])." in one.sentence
    one = with_sentences({"bright": Verdict("core", ["object:bright"], "bright: It decides.", ["colour:red"])}, found)[
        "bright"
    ]
    assert (one.kind, one.concepts, one.suppressed_by[0]) == ("core", ["object:bright"], "colour:red")
    assert one.sentence == f"bright: It decides. {found.sentences['bright']}"


def test_a_shortcut_decides_what_was_undecided_and_both_directions_are_told() -> None:
    found = measured(dark=lambda picture: picture - 0.2, light=lighter)
    one = with_sentences({"bright": Verdict("undecided", [], NOTHING)}, found)["bright"]
    assert (one.kind, one.concepts) == ("spurious", ["intervention:light"])
    assert one.suppressed_by == ["intervention:dark"]
    raised, lowered = one.sentence.index("bright: light raises it by +"), one.sentence.index(" dark lowers it by ")
    assert raised == 0 < lowered
    assert one.sentence.endswith(NOTHING.replace("bright: U", "Without interventions u", 1))


def test_clusters_make_the_interval_as_wide_as_pictures_that_are_alike_need() -> None:
    rng, inside, naive = np.random.default_rng(0), [], []
    for _ in range(400):
        change = np.repeat(rng.standard_normal((10, 1)), 6, 0) + 0.1 * rng.standard_normal((60, 1))
        for clusters, kept in ((np.arange(60) // 6, inside), (np.arange(60), naive)):
            one = cluster_means([change], clusters)
            low, high = interval(one.estimate, one.error, one.freedom)
            kept.append(low[0, 0] <= 0 <= high[0, 0])
    assert 0.92 <= np.mean(inside) <= 0.98 and np.mean(naive) < 0.8


BROKEN = {
    "fails": (lambda picture: picture.reshape(7), "interventions, it: wanted a function of a picture .*RuntimeError"),
    "another size": (lambda picture: picture[:, :4], r"interventions, it: wanted a finite picture \[3, 8, 8\]"),
    "no picture": (lambda picture: "picture", "interventions, it: wanted a finite picture .* got str"),
    "nan": (lambda picture: picture * float("nan"), "interventions, it: wanted a finite picture"),
    "bytes": (lambda picture: (255 * picture).byte(), r"in \[0, 1\], got \[3, 8, 8\] in torch.uint8"),
    "levels": (lambda picture: 255 * picture, r"in \[0, 1\], got numbers up to 12\d"),
    "no change": (lambda picture: picture, "interventions, it: wanted a function that changes pictures"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_intervention_that_fails_or_changes_nothing_says_so(name: str) -> None:
    with pytest.raises(ValueError, match=BROKEN[name][1]):
        measured(it=BROKEN[name][0])


def test_interventions_are_a_dict_of_functions() -> None:
    for wrong in ({}, {"a:b": marked}, {"": marked}):
        with pytest.raises(ValueError, match="interventions: wanted at least one"):
            checked_interventions(wrong)
    for kind in ("mirrored", "blank"):
        with pytest.raises(ValueError, match=f"interventions: wanted names that no placebo .* got 'mark, {kind}'"):
            checked_interventions({f"mark, {kind}": marked, "mark": marked})
    for other in (marked, {"mark": 3}, ["mark"]):
        with pytest.raises(TypeError, match="interventions: wanted a dict"):
            checked_interventions(other)
