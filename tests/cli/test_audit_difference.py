"""``diffexplain-fast audit diff``: its table, and what it says of folders that hold no audit."""

from dataclasses import replace
from pathlib import Path

import pytest

from diffexplain_fast.cli.audit import findings_table
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.results.audit import Audit
from tests.auditing import drawn_audit, made_up
from tests.cli.running import run


def test_the_table_of_a_difference_has_points_and_says_so() -> None:
    first, *_ = rows_of(made_up({("fish", "background:desert"): 5.0}))
    shares = {"answered_with": -0.83, "answered_without": 0.004, "obeyed": 0.0}
    row = replace(first, target="fish", concept="background:desert", role="less", finding=True, **shares)
    head, line = findings_table(Audit("a - b", [row], [], {}, {"difference": [{}, {}]})).splitlines()
    assert "difference of effects" in head and "difference of answered with" in head and "of obeyed" in head
    assert "-83 points" in line and "+0.4 points" in line and "+0 points" in line and "%" not in line
    assert "-83 points" not in findings_table(Audit("a", [row], [], {}, {}))


def test_what_holds_no_audit_is_named_with_its_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("audit/audit", "other"):
        drawn_audit().save(name)
    wanted = 'wanted the folder of a saved audit, or one that "audit --out" wrote, got'
    for one, two, said in (
        ("audit/audit/audit.json", "other", f"FIRST: {wanted} {Path('audit/audit/audit.json')}, a file"),
        ("other", "none", f"SECOND: {wanted} none, which does not exist"),
        ("audit", ".", f"SECOND: {wanted} ., a folder without one"),
    ):
        assert run("audit", "diff", one, two) == (2, f"diffexplain-fast: {said}\n")
    Path("other/audit.json").write_text("{}")
    code, text = run("audit", "diff", "audit", "other")
    assert code == 2 and text.startswith(f"diffexplain-fast: SECOND, {Path('other/audit.json').resolve()}: ")
