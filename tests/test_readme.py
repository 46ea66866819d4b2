"""The README is true: its examples run, and its links and commands exist."""

import re
from pathlib import Path

import pytest

from benchmarks.readme import rendered
from diffexplain_fast.cli.main import app
from diffexplain_fast.tinyworld.store import WEIGHTS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SHIPPED = (WEIGHTS / "MANIFEST.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_examples_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tinyworld" in BLOCKS[number] and not SHIPPED:
        pytest.skip("the trained models are not in this commit, as the README says")
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"README.md, example {number + 1}", "exec"), {})


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 2 and "tinyworld" in BLOCKS[0]


def test_the_readme_says_whether_the_models_are_shipped() -> None:
    assert ("not in this\ncommit" in TEXT) != SHIPPED


def test_every_link_leads_to_a_file() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in target]
    assert targets and all((ROOT / target).exists() for target in targets)


def test_every_named_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    used = set(re.findall(r"`diffexplain-fast (\w+)", TEXT))
    assert used and used <= known


def test_the_numbers_are_those_that_were_measured() -> None:
    assert rendered(TEXT) == TEXT
