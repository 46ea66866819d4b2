"""Whether edits and an audit agree: the same contrasts of both, and a difference is shown."""

import math
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.results.agreement import agreement_of, correlation_of, levels_of
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.results.effects import Row
from tests.auditing import drawn_audit
from tests.report.test_attribution import attribution

VALUES = ["sea", "snow", "desert", "grass", "night"]
TAXONOMY = dx.Taxonomy({"background": {"water": ["sea"], "land": VALUES[1:]}, "object": ["fish", "boat"]})
TRUE = dict(zip(VALUES, [0.0, 1.0, 4.0, -1.0, 0.5], strict=True))


def audit_row(concept: str, effect: float, half: float = 0.3, **changes: Any) -> AuditRow:
    """Return a row of an audit of fish, whose own effect is the effect itself."""
    numbers = {"p": 0.5, "adjusted_p": 0.5, "finding": False, "role": "none", "asked": effect, "obeyed": None}
    nothing = dict.fromkeys(
        ("declared_by", "answered_with", "answered_without", "accuracy_with", "accuracy_without", "tipping_point")
    )
    own = {"own_effect": effect, "own_low": effect - half, "own_high": effect + half}
    given: dict[str, Any] = numbers | nothing | own | {"pictures": 96} | changes
    return AuditRow("fish", concept, effect, effect - half, effect + half, **given)


def audited(**changes: float) -> list[AuditRow]:
    """Return the rows of an audit with the true contrasts, some of them changed; objects are the target's own group."""
    middle = float(np.median([*TRUE.values()]))
    rows = [audit_row(f"background:{v}", TRUE[v] - middle + changes.get(v, 0.0)) for v in VALUES]
    return [*rows, audit_row("object:fish", 5.0, declared_by="label"), audit_row("object:boat", -5.0)]


def edits(shown: list[str], noise: float = 0.05, missing: tuple[int, str] = (9, "")) -> list[Row]:
    """Return the rows of edits of pictures that show values: what another value does instead of the shown one."""
    rng, rows = np.random.default_rng(0), []
    for i, own in enumerate(shown):
        for value in VALUES:
            if value != own and (i, value) != missing:
                effect = TRUE[value] - TRUE[own] + noise * float(rng.normal())
                rows.append(Row(i, f"background:{value}", effect, effect - 0.2, effect + 0.2, 1.0, 1, effect, 0, 1, ""))
        rows.append(Row(i, "object:boat", -9.0, -9.1, -8.9, 1.0, 1, -9.0, 0, 1, ""))
    return rows


def own(shown: list[str]) -> list[list[str]]:
    """Return the names of what pictures show already."""
    return [[f"background:{value}", "object:fish"] for value in shown]


def test_edits_of_pictures_that_show_different_values_are_the_audits_contrasts() -> None:
    shown = ["sea", "snow", "desert", "sea"]
    found = agreement_of(edits(shown), range(4), own(shown), TAXONOMY.concepts, audited())
    assert {row.concept for row in found.rows} == {f"background:{value}" for value in VALUES}  # without the own object
    for row in found.rows:
        assert row.edited == pytest.approx(row.audited, abs=0.15) and row.own and not row.differ
        assert row.edited_low < row.edited < row.edited_high and row.pictures == 4
    assert found.correlation is not None and found.correlation > 0.99 and not found.differ
    assert found.low is not None and found.high is not None and found.low < found.correlation < found.high


def test_a_difference_is_shown_and_the_largest_comes_first() -> None:
    shown = ["sea", "snow", "grass"]
    found = agreement_of(edits(shown), range(3), own(shown), TAXONOMY.concepts, audited(desert=-2.5))
    assert found.rows[0].concept == "background:desert" and found.rows[0].differ
    assert [row.concept for row in found.differ] == ["background:desert"]
    first, second = found.sentences
    assert first.startswith("Audit and edits: 1 of 5 concepts differ, correlation 0.")
    assert second.startswith("background:desert: +1.00 by the audit, +3.")


def test_what_was_not_verified_or_only_screened_is_no_measurement() -> None:
    shown = ["sea", "snow", "grass"]
    rows = edits(shown, noise=0)
    for row in rows:
        if row.concept == "background:night":
            row.effect, row.success = 99.0, None if row.image else 0.0
    found = agreement_of(rows, range(3), own(shown), TAXONOMY.concepts, audited())
    known = {row.concept: row for row in found.rows}
    assert "background:night" not in known and known["background:desert"].edited == pytest.approx(3.5)


def test_a_value_that_was_left_out_is_not_the_pictures_own() -> None:
    grass = own(["grass"])
    rows = [row for row in edits(["grass"], noise=0) if row.concept != "background:sea"]
    for shown in (grass, [[]]):  # the taxonomy may lack what the picture shows, or nobody knows it
        found = agreement_of(rows, [0], shown, TAXONOMY.concepts, audited())
        assert "background:sea" not in {row.concept for row in found.rows}
        assert ("background:grass" in {row.concept for row in found.rows}) is bool(shown[0])
    # Two values are missing, of which the caption says one.
    lone = edits(["sea", "snow"], noise=0, missing=(0, "desert"))
    again = agreement_of(lone, range(2), own(["sea", "snow"]), TAXONOMY.concepts, audited())
    assert {row.concept: row.pictures for row in again.rows}["background:sea"] == 2
    face = dx.Taxonomy({"face": {"hair": ["blond", "brown"], "eyes": ["blue", "green"]}})
    both = [Row(0, f"face:{word}", 1.0, 0.9, 1.1, 1.0, 1, 1.0, 0, 1, "") for word in ("brown", "green")]
    names = ["face:blond", "face:blue"]
    told = [audit_row(concept.name, 1.0) for concept in face.concepts]
    assert {r.concept for r in agreement_of(both, [0], [names], face.concepts, told).rows} == {r.concept for r in both}


@pytest.mark.parametrize("reason", ["", "budget_used_up", "captions_too_long", "captions_cannot_say"])
def test_an_attribution_of_an_earlier_version_shows_what_it_lacks_unless_something_was_left_out(reason: str) -> None:
    taxonomy, settings = dx.Taxonomy({"background": VALUES}), {reason: ["background:sea on picture 0"]}
    rows = [row for row in edits(["sea"], noise=0) if not row.concept.startswith("object")]
    mine = replace(attribution(), label="fish", taxonomy=taxonomy, rows=rows, settings=settings, shown=None)
    audit: Any = SimpleNamespace(rows=audited(), findings=[])
    assert ("background:sea" in {row.concept for row in mine.agreement(audit).rows}) is not bool(reason)
    known = replace(mine, shown=[["background:sea"]])
    assert "background:sea" in {row.concept for row in known.agreement(audit).rows}


def test_one_picture_has_its_edits_errors_and_equal_pictures_are_one() -> None:
    one = agreement_of(edits(["sea"]), [0], own(["sea"]), TAXONOMY.concepts, audited())
    twice = agreement_of(edits(["sea", "sea"]), [0, 0], own(["sea", "sea"]), TAXONOMY.concepts, audited())
    assert [row.edited_high - row.edited_low for row in one.rows if row.concept != "background:sea"] == [
        pytest.approx(0.4)
    ] * 4
    assert twice.rows == one.rows
    endless = [replace(row, low=-math.inf, high=math.inf) for row in edits(["sea"])]
    assert not agreement_of(endless, [0], own(["sea"]), TAXONOMY.concepts, audited(desert=9.0)).differ


@pytest.mark.parametrize("finding", [False, True])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.2, 0.6])
def test_a_level_of_the_audit_changes_its_intervals_and_not_what_differs(level: float, finding: bool) -> None:
    # One of five concepts is found: its interval, where it is not of the own object, is that of a fifth of the level.
    halves = [0.3 * NormalDist().inv_cdf(1 - error / 2) for error in (level, level / 5 if finding else level)]
    told = audited(desert=-1.0)
    rows = [audit_row(row.concept, row.effect, halves[0], own_effect=None) for row in told[:5]]
    rows[2] = audit_row(rows[2].concept, rows[2].effect, halves[1], finding=finding, own_effect=None)
    levels = levels_of(rows, {"level": level})
    assert levels_of([*rows, audit_row("placebo:1", 0.0)], {"level": level}) == levels
    assert levels_of([], {}) == (0.05, 0.05)
    found = agreement_of(edits(["sea", "snow", "grass"]), range(3), own(["sea"] * 3), TAXONOMY.concepts, rows, levels)
    usual = [audit_row(row.concept, row.effect, 0.3 * NormalDist().inv_cdf(0.975), own_effect=None) for row in rows]
    same = agreement_of(edits(["sea", "snow", "grass"]), range(3), own(["sea"] * 3), TAXONOMY.concepts, usual)
    assert [row.adjusted_p for row in found.rows] == pytest.approx([row.adjusted_p for row in same.rows])
    # An effect beside the own object without an interval is not compared: the row's own effect and interval are.
    rows[2] = replace(rows[2], own_effect=9.0, own_low=None, own_high=None)
    bare = agreement_of(edits(["sea", "snow", "grass"]), range(3), own(["sea"] * 3), TAXONOMY.concepts, rows, levels)
    assert bare == found and not any(row.own for row in bare.rows)


def test_a_free_word_is_compared_with_its_absence() -> None:
    rows = [Row(i, "sunset", 2.0 + i / 10, 1.5, 2.5, 1.0, 1, 2.0, 0, 1, "") for i in range(3)]
    concepts = dx.Taxonomy(["sunset"]).concepts
    (row,) = agreement_of(rows, range(3), [[]] * 3, concepts, [audit_row("word:sunset", 2.1)]).rows
    assert row.edited == pytest.approx(2.1) and row.audited == 2.1 and row.concept == "word:sunset"


def test_a_correlation_needs_spread_and_three_numbers() -> None:
    assert correlation_of([1, 2], [1, 2]) == correlation_of([1, 1, 1], [1, 2, 3]) == (None, None, None)
    assert correlation_of([1, 2, 3], [1, 2, 4])[1:] == (None, None)


def test_an_attribution_asks_an_audit_of_its_own_target(tmp_path: Any) -> None:
    audit = drawn_audit()
    taxonomy = dx.Taxonomy({"background": ["desert", "snow"]})
    names = [concept.name for concept in taxonomy.concepts]
    assert {*names} <= {row.concept for row in audit.rows}
    rows = [Row(0, names[0], 3.0, 2.5, 3.5, 1.0, 1, 3.0, 10.0, 1.0, "swap")]
    mine = replace(attribution(), label="fish", taxonomy=taxonomy, rows=rows, images=[Image.new("RGB", (8, 8))])
    mine.audited = mine.agreement(audit)
    assert {row.concept for row in mine.audited.rows} == {*names}
    assert abs(mine.audited.rows[0].edited) == pytest.approx(1.5)  # a value against the middle of two
    read = dx.Attribution.load(mine.save(tmp_path / "a"))
    assert read.audited == mine.audited
    page = mine.report(tmp_path / "a.html").read_text()
    assert "by these edits" in page and "by these edits" not in attribution().report(tmp_path / "b.html").read_text()
    assert mine.audited.sentences[0] in mine.summary()
    with pytest.raises(ValueError, match="target: wanted"):
        replace(mine, label="frog").agreement(audit)
    with pytest.raises(ValueError, match="audit: wanted an audit with concepts"):
        attribution().agreement(replace(audit, rows=[replace(row, target="boat") for row in audit.rows[:1]]))
    with pytest.raises(TypeError, match="audit: wanted an Audit"):
        mine.agreement(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "got"),
    [
        (("made up", "a" * 64), ("made up", "a" * 64), ""),
        (("another", "a" * 64), ("made up", "a" * 64), ""),  # a copy under another name
        (("made up", ""), ("made up", "a" * 64), ""),  # an attribution of an earlier release
        (("", ""), ("made up", "a" * 64), ""),
        (("made up", "callable a.b"), ("made up", "callable c.b"), ""),  # functions have no weights
        (("tiny", ""), ("made up", "a" * 64), "an audit of tiny, got one of made up"),
        (("tiny", "b" * 64), ("made up", "a" * 64), "an audit of tiny, got one of made up"),
        (("made up", "b" * 64), ("made up", "a" * 64), "with the weights bbbbbbbb, got one with the weights aaaaaaaa"),
    ],
)
def test_edits_are_compared_with_an_audit_of_the_same_classifier(
    ours: tuple[str, str], theirs: tuple[str, str], got: str
) -> None:
    one, other = ({"classifier": name, "classifier_fingerprint": weights} for name, weights in (ours, theirs))
    audit = drawn_audit(classifier=other["classifier"])
    audit.settings |= {"classifier_fingerprint": other["classifier_fingerprint"]}
    mine = compared(one)
    if not got:
        assert mine.agreement(audit).rows
        return
    with pytest.raises(ValueError, match=f"audit: wanted an audit of .*{got.removeprefix('an audit of ')}"):
        mine.agreement(audit)


def test_edits_are_not_compared_with_a_difference_of_audits() -> None:
    mine, audit = compared({"classifier": "made up"}), drawn_audit()
    with pytest.raises(ValueError, match="wanted an audit of made up, got the difference made up - made up"):
        mine.agreement(drawn_audit(5.0).diff(audit))


def compared(settings: dict[str, str]) -> dx.Attribution:
    """Return an attribution of fish whose edits can be compared with those of ``drawn_audit``."""
    taxonomy = dx.Taxonomy({"background": ["desert", "snow"]})
    rows = [Row(0, taxonomy.concepts[0].name, 3.0, 2.5, 3.5, 1.0, 1, 3.0, 10.0, 1.0, "swap")]
    return replace(attribution(), label="fish", taxonomy=taxonomy, rows=rows, settings=settings)
