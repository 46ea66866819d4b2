"""What the autoencoder alone does to a decision: no edit has done it, and where the target is gone none can tell."""

from pathlib import Path

import pytest

import diffexplain_fast as dx
from tests.methods.diffex.worlds import TAXONOMY, Nearness, pictures, through_autoencoder
from tests.tiny import tiny_sd


def near(reach: float, **options: object) -> dx.Attribution:
    """Return an attribution of one picture, whose score says how near another one is to it."""
    classifier = dx.Classifier(Nearness(reach), labels=("same", "other"))
    with dx.Explainer(tiny_sd(), classifier) as explainer:
        return explainer.attribute(pictures(1), "same", taxonomy=TAXONOMY, captions=["a boat"], beam_width=1, **options)


def test_a_decision_that_the_autoencoder_alone_changes_is_the_flip_of_no_concept(tmp_path: Path) -> None:
    found = near(0.1)
    edits = found.edits(0)
    assert found.recognised == [0] and edits and all(edit.verified for edit in edits)
    assert all(edit.flipped is None and edit.points is not None for edit in edits)
    assert found.flips() == [] and found.counterfactuals == [None]
    said = f"Of {len(edits)} verified edits of recognised pictures {len(edits)} cannot tell whether they change the dec"
    assert said in found.unmeasured and said in found.summary()
    assert said in " ".join(found.report(tmp_path / "page.html").read_text().split())
    read = dx.Attribution.load(found.save(tmp_path / "a"))
    assert read.unmeasured == found.unmeasured and read.flips() == []


def test_a_flip_is_told_against_the_picture_through_the_autoencoder() -> None:
    baseline = through_autoencoder(picture := pictures(1))
    reach = float((baseline - picture).abs().mean()) + 0.0003  # the baseline is recognised, by a little
    before = float(Nearness(reach)(baseline).softmax(1)[0, 0])
    found = near(reach)
    told = {edit.concepts: edit for edit in found.edits(0)}
    assert {edit.flipped for edit in told.values()} == {True, False} and found.unmeasured == ""
    assert all(edit.flipped == (edit.effect < -0.03) for edit in told.values())
    (flip,) = found.counterfactuals
    assert flip is not None and flip.flipped and (flip.before, flip.after) == ("same", "other")
    assert flip.probability_before == pytest.approx(before, abs=1e-4)
    points = told[flip.changes].points
    assert points is not None and flip.probability_after - flip.probability_before == pytest.approx(points / 100)
