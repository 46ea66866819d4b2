"""Pages of many results keep within their bytes, say something of every class, and their filter finds all of them."""

import re
from pathlib import Path

import pytest

from benchmarks.discovery.pages import BARS, many_classes, several_explanations, written
from diffexplain_fast.report import audit as audit_page
from diffexplain_fast.report.writing import write_report


@pytest.mark.slow
def test_an_audit_of_a_thousand_classes_keeps_within_ten_megabytes(tmp_path: Path) -> None:
    audit = many_classes(1000, side=128)
    assert written(audit, tmp_path / "audit.html")["bytes"] <= BARS["audit of 1,000 classes"][0]
    text = (tmp_path / "audit.html").read_text()
    places = re.findall(r'data-entry="([^"]+)"', text)
    assert len(places) == 1000 and all(f'id="{place}"' in text for place in places)
    sections = re.findall(r'class="title" id="target-[^"]+">([^<]+)<', text)
    spurious = {row.target for row in audit.findings if row.role == "spurious"}
    assert len(sections) == 60 and set(sections) <= spurious  # of the classes that answer to their own objects too
    assert all(verdict.sentence in text for verdict in audit.verdicts.values()) and "targets more are" not in text


def test_what_is_not_on_the_page_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "_MOST_TARGETS", 3)
    monkeypatch.setattr(audit_page, "_MOST_LINES", 4)
    for classes, entries, left_out in ((3, 3, ""), (7, 7, ""), (9, 7, "2 targets more are in the saved audit.")):
        text = write_report(many_classes(classes, side=8), tmp_path / "audit.html").read_text()
        assert text.count("data-entry=") == entries and text.count('<section id="target-') == 3
        assert re.findall(r"\d+ targets more are in the saved audit\.", text) == [left_out][: bool(left_out)]
        assert ("Other targets" in text) == (classes > 3)


@pytest.mark.slow
def test_explanations_of_eight_classes_keep_within_three_megabytes(tmp_path: Path) -> None:
    most, _ = BARS["explanations of 8 classes"]
    assert most / 4 < written(several_explanations(8), tmp_path / "explanations.html")["bytes"] <= most
