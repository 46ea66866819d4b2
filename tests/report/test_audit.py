"""The page of an audit shows verdicts, evidence and tables on the design of all pages."""

from dataclasses import replace
from pathlib import Path

from diffexplain_fast.cli.audit import findings_table
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import Verdict
from tests.auditing import made_up
from tests.report.pages import Page, audit_example

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


def test_every_dotted_word_is_explained(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    used = {value for name, value in page.values if name == "popovertarget"}
    assert len(used) >= 10 and used <= {value for name, value in page.values if name == "id"}


def test_everything_is_escaped(tmp_path: Path) -> None:
    verdicts = {"boat": Verdict("both", [ATTACK], ATTACK, [], [0, 1])}
    page = page_of(tmp_path, classifier=ATTACK, verdicts=verdicts)
    assert page.tags.count("script") == 1 and page.text.count(ATTACK) >= 3
