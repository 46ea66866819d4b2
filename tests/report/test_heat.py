"""The map of an audit and the order of its findings."""

from dataclasses import replace
from pathlib import Path

from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.report.heat import heat_map, most_points_first
from diffexplain_fast.results.audit import Audit
from tests.auditing import made_up

ROWS = rows_of(made_up({("fish", "background:desert"): 5.0, ("tree", "colour:red"): 2.0}))


def test_classes_with_findings_come_first_and_cells_are_those_of_the_rows() -> None:
    found = heat_map(Audit("tiny", ROWS, [], {}, {}))
    assert found is not None and set(found.targets[:2]) <= {"fish", "tree", "boat", "house"} and found.left_out == 0
    assert {name for name, _ in found.rows} == {row.concept for row in ROWS} and found.concepts_left_out == 0
    desert = dict(found.rows)["background:desert"][found.targets.index("fish")]
    row = next(row for row in ROWS if (row.target, row.concept) == ("fish", "background:desert"))
    assert desert.text == f"{row.effect:+.1f}" and desert.shade == 100 and desert.finding and not desert.own
    assert dict(found.rows)["background:desert"][found.targets.index("boat")].shade == 0  # it lowers boats
    assert heat_map(Audit("tiny", [row for row in ROWS if row.target == "fish"], [], {}, {})) is None


def test_what_is_cut_off_is_counted_and_findings_come_first(tmp_path: Path) -> None:
    base = ROWS[0]
    rows = [
        replace(base, target=target, concept=f"word:w{i}", effect=i / 100, finding=i < 20, role="none")
        for i in range(200)
        for target in ("boat", "fish")
    ]
    audit = Audit("tiny", rows, [], {}, {"difference": []})
    found = heat_map(audit)
    assert found is not None and len(found.rows) == 80 and found.concepts_left_out == 120
    names = [int(name.removeprefix("word:w")) for name, _ in found.rows]
    assert names == [*range(19, -1, -1), *range(199, 139, -1)]
    page = audit.report(tmp_path / "audit.html").read_text()
    assert "The strongest effects: 2 classes, 80 of 200 concepts" in page
    assert "findings are bold; 120 more concepts are in the saved audit" in page
    assert "12 of 40 findings, those that move most answers first" in page


def test_findings_are_ranked_by_the_answers_that_they_move() -> None:
    few, many = (next(row for row in ROWS if row.finding) for _ in range(2))
    few = replace(few, role="spurious", effect=9.0, answered_with=0.2, answered_without=0.1)
    many = replace(many, role="spurious", effect=2.0, answered_with=0.9, answered_without=0.1)
    none = replace(few, finding=False)
    assert most_points_first([few, none, many]) == [many, few]
    own = replace(many, role="core", answered_with=1.0)
    assert most_points_first([own, few, none, many]) == [many, few, own]


def test_the_page_has_the_map_and_its_names_are_escaped(tmp_path: Path) -> None:
    rows = [replace(row, concept=row.concept.replace("desert", "<b>")) for row in ROWS]
    page = Audit("tiny", rows, [], {}, {"difference": []}).report(tmp_path / "audit.html").read_text()
    audit = Audit("tiny", rows, [], {}, {"pictures_used": 384, "minimal_effect": 0.5, "level": 0.05, "eye": None})
    assert (
        "Findings, those that move most answers first, the class's own last<"
        in audit.report(tmp_path / "a").read_text()
    )
    assert "All effects: 4 classes, 11 concepts" in page and "Findings, those that move most answers first" in page
    assert "<b>" not in page and "&lt;b&gt;" in page
