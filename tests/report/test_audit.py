"""The page of an audit shows verdicts, evidence and tables on the design of all pages."""

import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.cli.audit import findings_table
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.report.page import SECTION_BYTES, section_bytes
from diffexplain_fast.report.writing import write_report
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import Verdict
from tests.auditing import made_up
from tests.report.pages import Page, audit_example, example

INF = float("inf")
ATTACK = '<script>alert("x")</script>'


def page_of(path: Path, **changes: object) -> Page:
    """Return the parsed page of the example."""
    return Page(audit_example(**changes).report(path / "audit.html").read_text(encoding="utf-8"))


def test_words_that_disagree_are_marked(tmp_path: Path) -> None:
    rows = rows_of(made_up({("fish", "background:desert"): 5.0}))
    marked = [replace(row, words_disagree=row.concept == "background:desert") for row in rows]
    page = Audit("tiny", marked, [], {}, {"difference": []}).report(tmp_path / "audit.html").read_text()
    assert page.count("the words carry something else") == 4  # one row of each class
    assert "its words carry something else" in findings_table(Audit("tiny", marked, [], {}, {}))


def test_the_page_shows_everything_of_an_audit(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    text = " ".join(page.text.split())
    for said in (
        "boat answers to snow beside its own object.",
        "Pictures that ask for background:snow",
        "+2.50 [+2.00, +3.00]",
        "-3.00 [-3.50, -2.50]",
        "90 %, 25 %",
        "6 concepts more",
        "400 pictures of random captions",
        "background:snow, colour:red",
    ):
        assert said in text, said
    assert page.tags.count("img") == 4 and page.tags.count("table") == 6
    rows = [text.index(f"{value} ") for value in ("object boat", "colour red", "background snow")]
    assert rows == sorted(rows)
    entries = [value for name, value in page.values if name == "data-entry"]
    assert entries == ["target-0-0", "target-0-1"]


def test_the_page_says_which_classes_got_pictures_of_their_own_objects(tmp_path: Path) -> None:
    settings = audit_example().settings | {"pictures_beside": {"boat": 96, ATTACK: 96}}
    page = page_of(tmp_path, settings=settings)
    assert f"192 more of the own objects of boat, {ATTACK}" in " ".join(page.text.split())
    assert page.tags.count("script") == 1
    assert "own objects of" not in page_of(tmp_path).text


def text_of(path: Path, *, without: tuple[str, ...] = (), **settings: object) -> str:
    """Return the text of the example's page with other settings, as one line."""
    known = {name: value for name, value in audit_example().settings.items() if name not in without}
    return " ".join(page_of(path, settings=known | settings).text.split())


def test_intervals_are_named_by_the_level_of_the_audit(tmp_path: Path) -> None:
    assert "effect, 95 % interval" in text_of(tmp_path) and "effect, 95 % interval" not in text_of(tmp_path, level=0.3)
    assert "effect, 70 % interval" in text_of(tmp_path, level=0.3)
    assert "effect, 99.9 % interval" in text_of(tmp_path, level=0.001)
    assert "effect, interval" in text_of(tmp_path, without=("level", "pictures_used"), difference=[])
    of_two = [{"level": 0.3, "output": "sigmoid"}, {"level": 0.05, "output": "sigmoid"}]
    difference = text_of(tmp_path, without=("level", "pictures_used"), difference=of_two)
    assert "effect, 70 % interval" in difference and "Effects in log-odds;" in difference
    assert "the first minus the second." in difference and "second.." not in difference


def test_the_page_says_what_is_controlled(tmp_path: Path) -> None:
    assert "minimal effect 1, false discoveries at most 5 %" in text_of(tmp_path)
    assert "false discoveries at most 0.25 %" in text_of(tmp_path, control="any", level=0.0025)
    family = text_of(tmp_path, control="family")
    assert "any false finding in at most 5 % of such audits" in family and "false discoveries" not in family


UNITS = {
    "softmax": "logits",
    "probabilities": "logits",
    "sigmoid": "log-odds",
    "independent probabilities": "log-odds",
    "regression": "units of the outputs",
}


@pytest.mark.parametrize("output", UNITS)
def test_the_unit_of_effects_is_that_of_the_output(output: str, tmp_path: Path) -> None:
    assert f"Effects in {UNITS[output]}; findings are bold" in text_of(tmp_path, output=output)


def test_targets_that_are_no_classes_have_units_of_their_own(tmp_path: Path) -> None:
    audit = audit_example()
    audit.rows = [replace(row, answered_with=None) if row.target == "fish" else row for row in audit.rows]
    audit.settings["output"] = "softmax"
    text = Page(audit.report(tmp_path / "audit.html").read_text(encoding="utf-8")).text
    assert "Effects in logits, of targets that are no classes in their own units;" in text


def test_the_page_says_that_pictures_were_drawn_only_where_they_were(tmp_path: Path) -> None:
    drawn, changed = "A diffusion model drew pictures of random captions", "Interventions changed pictures one by one"
    assert drawn in text_of(tmp_path) and changed not in text_of(tmp_path)
    rows = [replace(row, concept=f"intervention:{row.value}") for row in audit_example().rows]
    settings = {"pictures": 0, "own_pictures": 30, "level": 0.05}
    text = " ".join(page_of(tmp_path, rows=rows, verdicts={}, settings=settings).text.split())
    assert "30 own pictures, each with and without every intervention" in text
    assert changed in text and drawn not in text and "Press a dotted word" in text
    both = " ".join(page_of(tmp_path, rows=[*audit_example().rows, *rows]).text.split())
    assert drawn in both and changed in both


def test_every_dotted_word_is_explained(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    used = {value for name, value in page.values if name == "popovertarget"}
    assert len(used) >= 10 and used <= {value for name, value in page.values if name == "id"}


def test_the_words_of_a_difference_are_explained_where_there_is_one(tmp_path: Path) -> None:
    roles = {"spurious": "more", "suppresses": "less"}
    rows = [replace(row, role=roles.get(row.role, "none"), finding=row.role in roles) for row in audit_example().rows]
    page = page_of(tmp_path, rows=rows, verdicts={}, settings={"difference": []})
    used = {value for name, value in page.values if name == "popovertarget"}
    assert {"term-more", "term-less"} <= used <= {value for name, value in page.values if name == "id"}
    assert "term-more" not in {value for name, value in page_of(tmp_path).values if name == "id"}


def test_targets_without_a_verdict_have_a_sentence(tmp_path: Path) -> None:
    rows = [replace(row, role="undecided", finding=False) for row in audit_example().rows]
    said = f"No finding; {len(rows)} of {len(rows)} effects are undecided: more pictures are needed."
    for changes in ({"settings": {"difference": []}}, {}):
        audit = audit_example(rows=rows, verdicts={}, **changes)
        assert said in page_of(tmp_path, rows=rows, verdicts={}, **changes).text and said in audit.summary()
    assert "No finding" not in page_of(tmp_path, rows=rows).text  # verdicts say more
    none = [replace(row, role="none") for row in rows]
    for changes, wanted in (
        ({}, "No concept has an effect above"),
        ({"difference": []}, "No effect of the first audit"),
    ):
        assert wanted in page_of(tmp_path, rows=none, verdicts={}, settings=changes).text


def difference(effect: float = 1.0) -> dict[str, object]:
    """Return what makes the example the difference of two audits."""
    rows = [
        replace(
            row,
            effect=effect * row.effect,
            low=effect * row.low,
            high=effect * row.high,
            obeyed=-0.001,
            answered_with=0.0,
            answered_without=-0.02,
        )
        for row in audit_example().rows
    ]
    return {"rows": rows, "settings": {"difference": [{"level": 0.05, "minimal_effect": 1.0}] * 2}}


def test_a_difference_has_differences_of_shares_and_no_shares(tmp_path: Path) -> None:
    text = " ".join(page_of(tmp_path, **difference()).text.split())
    assert "difference of shares: answered with +0 points, without -2 points; obeyed -0.1 points; adjusted p" in text
    assert "difference of shares answered with, without" in text and "-0.1 points" in text
    assert "-2 %" not in text and "-0 %" not in text and "of 40 pictures" not in text
    assert "answered with 90 %, without 25 %; obeyed 98 % of 40 pictures" in " ".join(page_of(tmp_path).text.split())


def test_an_end_without_a_bound_is_open_at_the_edge_and_said(tmp_path: Path) -> None:
    ends = [(1.0, INF), (-INF, 3.0), (-INF, INF)]
    rows = [replace(audit_example().rows[0], effect=2.5, low=low, high=high) for low, high in ends]
    page = page_of(tmp_path, rows=rows, verdicts={})
    text = " ".join(page.text.split())
    for said in ("+2.50 [+1.00, unbounded]", "+2.50 [unbounded, +3.00]", "+2.50 [unbounded]"):
        assert said in text
    styles = [value for name, value in page.values if name == "style"]
    assert not any("inf" in style or "nan" in style for style in styles)
    kinds = [value for name, value in page.values if name == "class" and value.startswith("whisker")]
    assert kinds == ["whisker open-high", "whisker open-low", "whisker open-low open-high"]
    whole = [style for style in styles if style.startswith("left:0.0%")]
    assert "left:0.0%;width:100.0%" in whole and len(whole) == 2


def test_the_sections_of_a_page_share_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert section_bytes(1) == section_bytes(8) == SECTION_BYTES
    assert 60 * section_bytes(60) <= 6e6 and 1000 * section_bytes(1000) <= 6e6
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 255, (192, 192, 3), dtype=np.uint8)) for _ in range(2)]
    base, names = audit_example().rows[0], [f"class {i}" for i in range(8)]
    rows = [replace(base, target=name) for name in names]
    verdicts = {name: Verdict("spurious", ["background:0"], f"{name}: A shortcut.", [], [0, 1]) for name in names}
    audit = Audit("resnet", rows, [], verdicts, audit_example().settings, noise)
    assert audit.report(tmp_path / "large.html").stat().st_size > 250_000
    monkeypatch.setattr("diffexplain_fast.report.page._PAGE_BYTES", 100_000)
    for results in ([audit], [audit, audit]):
        path = write_report(results, tmp_path / "small.html")
        text = path.read_text()
        assert sum(map(len, re.findall(r"data:image/[^\"]*", text))) <= 100_000
        assert text.count("<img") == 16 * len(results)


def test_bars_of_rounding_have_no_length(tmp_path: Path) -> None:
    def lengths(effect: float) -> list[float]:
        styles = [value for name, value in page_of(tmp_path, **difference(effect)).values if name == "style"]
        return [
            float(style.split("width:")[1].rstrip("%"))
            for style in styles
            if style.startswith("left:") and "width" in style
        ]

    assert max(lengths(1.0)) > 20 and max(lengths(1e-15)) < 1e-3 and max(lengths(1e-9)) < 1e-3
    assert max(lengths(1e-3)) > 20


def test_everything_is_escaped(tmp_path: Path) -> None:
    verdicts = {"boat": Verdict("both", [ATTACK], ATTACK, [], [0, 1])}
    page = page_of(tmp_path, classifier=ATTACK, verdicts=verdicts)
    assert page.tags.count("script") == 1 and page.text.count(ATTACK) >= 3


def test_the_figure_has_the_strongest_effects_by_target(tmp_path: Path) -> None:
    found = audit_example()
    figure, axes = found.plot()
    figure.savefig(tmp_path / "audit.png")
    names = [text.get_text() for text in axes["effects"].get_yticklabels()]
    assert names[:5] == ["boat", "object:boat", "colour:red", "background:snow", "texture:14"] and "fish" not in names
    widths = [bar.get_width() for bar in axes["effects"].patches]
    assert widths[:4] == [6.0, -3.0, 2.5, 0.14] and len(widths) == 18
    assert list(axes["effects"].lines[0].get_xdata()) == [5.5, 6.5]
    assert axes["effects"].get_xlabel().startswith("effect in logits, 95 % interval")
    assert "1 of 19 rows are not drawn" in axes["effects"].get_xlabel()
    many = [replace(row, target=f"{row.target} {i}") for i in range(9) for row in found.rows]
    drawn = replace(found, rows=many).plot()[1]["effects"]
    assert len(drawn.patches) == 24  # every one a finding
    for rows in ([], [row for row in found.rows if math.isnan(row.effect)]):
        assert not replace(found, rows=rows).plot()[1]["effects"].patches


def test_a_difference_is_drawn_as_one() -> None:
    settings = audit_example().settings
    label = audit_example(settings={"difference": [settings, settings]}).plot()[1]["effects"].get_xlabel()
    assert label.startswith("first effect minus second in logits, 95 % interval")


def test_matplotlib_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for result in (audit_example(), example()):
        with pytest.raises(ImportError, match=r"pip install 'diffexplain-fast\[plot\]'"):
            result.plot()


def test_results_of_different_kinds_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="results of one kind on a page, got Explanation and Audit"):
        dx.write_report([example(), audit_example()], tmp_path / "r.html")
    with pytest.raises(TypeError, match="wanted an Explanation, an Attribution or an Audit, got"):
        dx.write_report([audit_example(), 3], tmp_path / "r.html")  # type: ignore[list-item]
