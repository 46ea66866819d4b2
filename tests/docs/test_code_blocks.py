"""Every Python block of the documentation runs, in the order of its page."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.reading import PAGES, ROOT, SNIPPET, blocks, read
from tests.docs.stand_ins import STAND_INS, with_stand_ins

CODE = {page: blocks(read(page), "python") for page in PAGES}
_OWN = [page for page in PAGES if any(not SNIPPET.search(block) for block in CODE[page])]
SLOW = (
    "attribution.md",
    "audit.md",
    "index.md",
    "many-gpus.md",
    "own-classifier.md",
    "published-classifier.md",
    "questions.md",
    "report.md",
    "tasks.md",
)
"""Pages whose blocks explain something, which takes more than a few seconds."""


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] if p in SLOW else []) for p in _OWN])
def test_the_blocks_of_a_page_run(page: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(CODE[page], start=1):
        if not SNIPPET.search(block):
            exec(compile(with_stand_ins(block, hub), f"{page}, block {number}", "exec"), names)
    if page == "tasks.md":  # the page says so
        assert {row.concept: row.role for row in names["difference"].rows}["background:desert"] == "less"


def test_a_block_loads_nothing_else_from_the_hub() -> None:
    own = [block for page in PAGES for block in CODE[page] if not SNIPPET.search(block)]
    found = {name for block in own for name in re.findall(r'"([\w.-]+/[\w.-]+)"', block)}
    assert found - set(STAND_INS) == {"tinyworld/background", "tinyworld/clean"}


def test_a_file_that_a_page_shows_is_an_example_that_runs() -> None:
    shown = [name for page in PAGES for name in SNIPPET.findall(read(page))]
    tested = (ROOT / "tests" / "test_examples.py").read_text(encoding="utf-8")
    assert shown and all((ROOT / name).is_file() and Path(name).name in tested for name in shown)


def test_every_python_block_is_found() -> None:
    assert all(read(page).count("```python") == len(CODE[page]) for page in PAGES) and len(_OWN) >= 6


def test_each_of_ten_tasks_is_one_command_or_twelve_lines() -> None:
    _, *tasks = re.split(r"^## \d+\. ", read("tasks.md").partition("\n## When it goes wrong")[0], flags=re.MULTILINE)
    assert len(tasks) == 10
    for task in tasks:
        code = blocks(task, "python")
        assert (code or blocks(task, "sh")) and all(len(block.strip().splitlines()) <= 12 for block in code), task
        wide = [line for block in (*code, *blocks(task, "sh")) for line in block.splitlines() if len(line) > 80]
        assert not wide, f"cut at the width of the page: {wide}"
