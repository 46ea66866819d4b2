"""The site is complete: every page is in the navigation, and the strict build has no warning and no outside file."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from diffexplain_fast.ops.doctor import TRITON_MISSING
from diffexplain_fast.public_names import HOMES
from tests.docs.cards import BEGIN, PAGE, SHOWN, rendered, table
from tests.docs.reading import PAGES, ROOT, read

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
_NO_HELP = ("adding-an-op.md",)
"""Pages for contributors, which need no advice for users."""


def test_the_navigation_has_every_page_once() -> None:
    named = [page for entry in CONFIG["nav"] for page in entry.values()]
    assert sorted(named) == list(PAGES)


def test_the_configuration_is_strict_and_fetches_no_font() -> None:
    assert CONFIG["strict"] is True and CONFIG["theme"]["font"] is False and "repo_url" not in CONFIG


@pytest.mark.parametrize("page", [page for page in PAGES if page not in _NO_HELP])
def test_a_page_says_what_to_do_when_it_goes_wrong(page: str) -> None:
    assert "\n## When it goes wrong\n" in read(page)


def test_the_strict_build_has_no_warning(tmp_path: Path) -> None:
    missing = [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert {Path(page).stem for page in PAGES} <= {Path(page).stem for page in pages}
    fetched = re.compile(r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
    assert not [found for text in pages.values() for found in fetched.findall(text)]
    assert "candidates" in pages["reference.html"] and "images_per_step" in pages["reference.html"]


def test_the_reference_has_every_public_name() -> None:
    page = read("reference.md")
    shown = set(re.findall(r"^::: [\w.]+?\.(\w+)$", page, re.MULTILINE))
    assert set(HOMES) - shown == {"editing", "tinyworld"}
    assert "diffexplain_fast.editing." in page and "diffexplain_fast.tinyworld." in page


def test_only_the_lines_between_the_marks_are_rendered() -> None:
    page = read("published-classifier.md")
    changed = rendered(page, ["| x |"])
    assert changed != page and "| x |\n" in changed and changed.startswith(page.split(BEGIN)[0])
    assert all(name in page for name in SHOWN.values())


@pytest.mark.slow
@pytest.mark.skipif(bool(TRITON_MISSING), reason="the time model needs Triton's launchers")
def test_the_table_of_cards_is_what_the_model_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page, table()) == page, "python -m tests.docs.cards renders it again"
