"""Numbers as text: of ordinary size as ever, small ones never as zero, and no zero with a minus."""

import math
from dataclasses import replace

import pytest

from diffexplain_fast.cli.audit import findings_table
from diffexplain_fast.number_texts import (
    effect_text,
    effect_texts,
    interval_texts,
    isolated,
    output_text,
    points_text,
    share_text,
    shares_and_points,
)
from diffexplain_fast.report.evidence import evidence_of
from diffexplain_fast.report.heat import heat_map
from diffexplain_fast.report.sentences import verdict_of
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.explanation import ActivationScore
from diffexplain_fast.results.pictures import Answer, Picture
from tests.report.pages import audit_example, example

INF = math.inf


@pytest.mark.parametrize("value", [2.5, -3.0, 0.05, -0.01, 0.994, 123.456, -1234567.0, 0.0])
def test_numbers_of_ordinary_size_stay_as_they_were(value: float) -> None:
    assert effect_texts(value, 1.0) == [f"{value:+.2f}", "+1.00"]
    assert effect_texts(value, 1.0, signs="") == [f"{value:.2f}", "1.00"]


def test_small_numbers_do_not_look_like_zero() -> None:
    assert interval_texts(0.004, 0.003, 0.0045) == ("+0.0040", "[+0.0030, +0.0045]")
    assert interval_texts(-0.001, -0.004, 0.003, signs="") == ("-0.0010", "[-0.0040, 0.0030]")
    assert interval_texts(2.5, -0.001, 3.0) == ("+2.50", "[-0.001, +3.00]")
    assert effect_text(3e-9) == "+3e-09" and effect_text(0.3, digits=1) == "+0.3"


def test_rounding_of_zero_is_zero_without_a_minus() -> None:
    assert effect_texts(-0.0, 1e-16, -3e-15) == ["+0.00"] * 3
    assert effect_text(-0.0, signs="") == "0.00" and points_text(-0.0) == "+0 points"
    assert output_text(-0.0) == "0" and output_text(-0.012345) == "-0.01235"


def test_large_numbers_and_open_ends() -> None:
    assert interval_texts(1e15, 9e14, INF) == ("+1e+15", "[+9e+14, unbounded]")
    assert interval_texts(1.0, -INF, INF) == ("+1.00", "[unbounded]")
    assert effect_text(math.nan) == effect_text(None) == "-"


def test_shares_look_like_none_and_all_only_where_they_are() -> None:
    shares = (0.0, 0.004, 0.005, 0.006, 0.64, 0.994, 0.996, 1.0, None, math.nan)
    said = ["0 %", "under 1 %", "under 1 %", "1 %", "64 %", "99 %", "over 99 %", "100 %", "-", "-"]
    assert [share_text(share) for share in shares] == said
    assert [share_text(share) for share in (4e-16, -4e-16, 1 - 4e-16)] == ["0 %", "0 %", "100 %"]
    assert [points_text(x) for x in (0.65, -0.02, 0.004, None)] == ["+65 points", "-2 points", "+0.4 points", "-"]


def test_two_shares_and_their_difference_agree() -> None:
    assert shares_and_points(0.64, 0.02, 0.55, 0.69) == ("64 %", "2 %", "+62 points", "[55, 69]")
    assert shares_and_points(0.646, 0.024, 0.55, 0.69) == ("65 %", "2 %", "+63 points", "[55, 69]")
    assert shares_and_points(0.004, 0.0, -0.001, 0.02) == ("0.4 %", "0.0 %", "+0.4 points", "[-0.1, 2.0]")
    assert shares_and_points(0.998, 0.25, 0.7, 0.8)[0] == "99.8 %"
    assert shares_and_points(0.002, 0.004, -0.02, 0.0)[2] == "-0.2 points"
    assert shares_and_points(1 - 7e-16, 4e-16, 0.9, 1.0) == ("100 %", "0 %", "+100 points", "[90, 100]")
    assert shares_and_points(1.0, 0.0, 0.9, 1.0) == ("100 %", "0 %", "+100 points", "[90, 100]")


def test_results_say_small_numbers() -> None:
    rows = [row for row in audit_example().rows if row.target == "boat"]
    small = [replace(row, effect=effect, target=name) for row in rows for name, effect in (("a", -0.004), ("b", 2e-4))]
    found = heat_map(Audit("tiny", small, [], {}, {}))
    assert found is not None and {cell.text for _, cells in found.rows for cell in cells} == {"-0.0040", "+0.0002"}
    held_out = ActivationScore(1000, 0.999, (0.99, 1.0), 6.0, 0.9)
    assert "999 of 1000 (over 99 %)" in verdict_of(example(activation={"held_out": held_out})).headline
    pictures = {"held_out": [Picture(example().images[0], Answer(0, 1.0, 0.996, True, "boat"))]}
    assert evidence_of(example(pictures=pictures)).drawn[0].said == "boat over\N{NO-BREAK SPACE}99\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize("name", ["\u05d3\u05d2", "\u0633\u0645\u0643", "red \u05d3\u05d2"])
def test_a_name_from_right_to_left_does_not_move_the_number_beside_it(name: str) -> None:
    said, all_alike = f"\u2068{name}\u2069", [isolated(plain) for plain in ("fish", "\u9c7c", "desert:5", "")]
    assert isolated(name) == said and all_alike == ["fish", "\u9c7c", "desert:5", ""]
    row = replace(audit_example().rows[0], target=name, concept=f"background:{name}", finding=True)
    head, line = findings_table(Audit("tiny", [row], [], {}, {})).splitlines()
    assert line.startswith(f"\u2068{name.ljust(max(6, len(name)))}\u2069  ") and "\u2068" not in head
    pictures = {"held_out": [Picture(example().images[0], Answer(0, 1.0, 0.5, True, name))]}
    drawn = evidence_of(replace(example(pictures=pictures), label=name)).drawn[0]
    assert drawn.said == f"{said} 50\N{NO-BREAK SPACE}%"
