"""Agreement of units with workers: what counts as core here, the shares, and how wide their intervals are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.evidence.salient import Judgement
from diffexplain_fast.methods.discovery.salient import agreement_with, judged_units
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.stats.clustered import clustered_rate
from diffexplain_fast.stats.intervals import wilson_interval
from tests.auditing import quick_audit
from tests.evidence.test_salient import table
from tests.tiny import LABELS, tiny_classifier

CONCEPTS = Concepts({"object": list(LABELS), "background": ["desert", "snow"]}, core={"fish": ["background:snow"]})
READOUT = Readout(Classifier(tiny_classifier(), labels=LABELS), LABELS, LABELS, (0, 1, 2, 3), {})
DESERT = UnitRow(0, "background:desert", 2.0, 1.0, 3.0, 0.01, finding=True)
ROWS = {
    0: DESERT,
    1: replace(DESERT, unit=1, concept="object:fish"),
    2: replace(DESERT, unit=2, concept="background:snow"),
    3: replace(DESERT, unit=3, finding=False),
}
SPURIOUS, CORE = Judgement(4, 5), Judgement(1, 5)


def test_a_units_own_concept_is_core_for_its_class_only() -> None:
    judged = {(1, 0): SPURIOUS, (1, 1): CORE, (1, 2): CORE, (0, 1): CORE, (0, 2): SPURIOUS, (0, 3): CORE, (9, 0): CORE}
    found = agreement_with(judged, ROWS, READOUT, CONCEPTS)
    ours = {(pair.target, pair.unit): pair.ours for pair in found.pairs}
    assert ours == {
        ("fish", 0): "spurious", ("fish", 1): "core", ("fish", 2): "core", ("boat", 1): "spurious",
        ("boat", 2): "spurious", ("boat", 3): "undecided",
    }  # fmt: skip
    assert (found.all.rate, found.all.pairs, found.usual) == (0.8, 5, 0.6)
    assert (found.spurious.rate, found.spurious.pairs, found.core.pairs) == (1.0, 2, 3)
    assert "80 % [" in found.sentence and "in 60 %; 1 pairs are undecided" in found.sentence
    undecided = agreement_with({(0, 3): CORE}, ROWS, READOUT, CONCEPTS)
    assert undecided.all.rate is None and "no pair of class and unit is decided" in undecided.sentence


def test_tables_of_other_classes_or_layers_are_refused() -> None:
    assert judged_units({(1, 5): CORE, (9, 77): CORE}, READOUT, 12) == [5]
    with pytest.raises(ValueError, match="salient: wanted a table about the targets"):
        judged_units({(9, 5): CORE}, READOUT, 12)
    with pytest.raises(ValueError, match="salient: wanted features from 0 to 11, the units of the layer, got 12"):
        judged_units({(1, 12): CORE}, READOUT, 12)
    with pytest.raises(ValueError, match="salient: wanted features from 0 to 11, the units of the layer, got -1"):
        judged_units({(1, 5): CORE, (1, -1): CORE}, READOUT, 12)


def test_an_interval_holds_the_rate_where_units_of_a_class_agree_with_each_other() -> None:
    # 40 classes of 5 units; a class's own rate is .5 or .9, so the trials of one class are alike.
    rng, inside, naive = np.random.default_rng(0), [], []
    clusters = np.repeat(np.arange(40), 5)
    for _ in range(400):
        hits = rng.random(200) < np.repeat(rng.choice([0.4, 1.0], 40), 5)
        low, high = clustered_rate(hits, clusters)
        inside.append(low <= 0.7 <= high)
        low, high = wilson_interval(int(hits.sum()), 200)
        naive.append(low <= 0.7 <= high)
    assert 0.93 <= np.mean(inside) <= 0.975 and np.mean(naive) < 0.9
    assert clustered_rate(np.ones(10, dtype=bool), np.arange(10) // 5) == pytest.approx(wilson_interval(2, 2))


def test_an_audit_is_compared_with_a_file(tmp_path: Path) -> None:
    audit = quick_audit(tmp_path / "pool")
    told = {(1, 3): ["background"] * 5, (1, 4): ["main_object"] * 5, (7, 4): ["main_object"]}
    found = audit.salient(table(tmp_path, told), "layer2")
    assert [(pair.target, pair.unit, pair.theirs) for pair in found.pairs] == [
        ("fish", 3, "spurious"), ("fish", 4, "core")
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError):
        audit.salient(tmp_path / "none.csv", "layer2")
