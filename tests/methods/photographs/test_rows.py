"""Rows of pasted values, with placebos as the error of pasting, and their agreement with the generator."""

from dataclasses import replace

import numpy as np
import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.photographs.rows import agreement, pasted_rows
from diffexplain_fast.methods.photographs.trial import Pasted
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.results.photographs import PastedRow

pytest.importorskip("statsmodels")
CONCEPTS = Concepts({"background": ["sea", "snow", "night", "desert"], "companion": ["sun", "kite", "flag"]})
TARGETS = ("boat", "fish")


def trial(group: int, effects: list[float], placebo: float, noise: float = 0.3) -> Pasted:
    """Return a trial in which the values add their effects to the first target, and placebos have one size."""
    rng = np.random.default_rng(group)
    count = len(effects)
    donors = np.stack([100 * value + rng.permutation(40) % 20 for value in range(count)], 1)
    values = noise * rng.standard_normal((40, count, 2))
    values[:, :, 0] += effects
    return Pasted(group, np.arange(count), values, donors, placebo * np.where(rng.random((count, 2)) < 0.5, -1, 1))


def rows(placebo: float = 0.05) -> dict[tuple[str, str], PastedRow]:
    """Return the rows of two groups by target and concept."""
    trials = [trial(0, [3.0, 0.0, 0.0, 0.0], placebo), trial(1, [0.0, -2.0, 0.0], placebo)]
    own = {("boat", "background:sea"): "user"}
    found = pasted_rows(trials, CONCEPTS, TARGETS, lambda *key: own.get(key), 0.5, 0.05)
    return {(row.target, row.concept): row for row in found}


def test_pasted_effects_are_found_with_their_roles() -> None:
    found = rows()
    assert len(found) == 2 * 7
    assert {key for key, row in found.items() if row.finding} == {
        ("boat", "background:sea"),
        ("boat", "companion:kite"),
    }
    sea = found["boat", "background:sea"]
    assert sea.role == "core" and sea.low < 3 < sea.high and sea.pictures == 40 and sea.donors == 20
    assert found["boat", "companion:kite"].role == "suppresses" and found["fish", "companion:kite"].role == "none"


def test_what_placebos_do_as_well_is_no_finding() -> None:
    found = rows(placebo=3.0)
    assert not any(row.finding for row in found.values())
    assert found["boat", "background:sea"].placebo == pytest.approx(3.0, abs=1e-9) or (
        found["boat", "background:sea"].placebo == pytest.approx(-3.0, abs=1e-9)
    )


def test_without_placebos_the_sampling_error_is_left() -> None:
    none = replace(trial(0, [3.0, 0.0, 0.0, 0.0], 0.0), placebos=np.full((4, 2), np.nan))
    found = pasted_rows([none], CONCEPTS, TARGETS, lambda *key: None, 0.5, 0.05)
    assert found[0].finding and found[0].role == "spurious" and found[0].placebo is None
    assert pasted_rows([], CONCEPTS, TARGETS, lambda *key: None, 0.5, 0.05) == []


def drawn(row: PastedRow, effect: float, declared: str | None = None) -> AuditRow:
    """Return a row of the generator."""
    shared = {name: row[name] for name in PastedRow.names() if name in AuditRow.names()}
    ends = {"effect": effect, "low": effect - 0.1, "high": effect + 0.1, "declared_by": declared}
    return AuditRow(**{**dict.fromkeys(AuditRow.names()), **shared, **ends})  # type: ignore[arg-type]


def test_agreement_is_that_of_effects_and_intervals() -> None:
    pasted = list(rows().values())
    same = agreement(pasted, [drawn(row, 2 * row.effect) for row in pasted], {})
    assert same.cells == 14 and same.correlation == pytest.approx(1) and same.slope == pytest.approx(0.5)
    assert same.overlap is not None and same.overlap < 1  # 3 is not 6
    own = agreement(pasted, [drawn(row, row.effect, "label") for row in pasted], {})
    assert own.cells == 0 and own.correlation is None


def test_agreement_takes_the_own_object_as_often_as_the_pictures_do() -> None:
    pasted = list(rows().values())
    parts = [replace(drawn(row, 0.0), own_effect=4 * row.effect, other_effect=0.0) for row in pasted]
    assert agreement(pasted, parts, {"boat": 0.25, "fish": 0.25}).slope == pytest.approx(1)
    assert agreement(pasted, parts, {}).slope is None
