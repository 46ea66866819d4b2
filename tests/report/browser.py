"""A real browser for tests of pages: Chromium driven by Playwright, and axe-core, where they are installed."""

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS, THEMES = (390, 768, 1280), ("light", "dark")


@functools.cache
def chromium() -> str | None:
    """Return the path of Chromium, None if it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """Run a browser with a new profile; skip the test, with the reason, if a part is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install 'diffexplain-fast[browser]'"
    )
    if chromium() is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(started: Any, path: Path, width: int = 1280, theme: str = "light", **options: Any) -> Iterator[Any]:
    """Open a file; every error of its script or of its policy fails the test."""
    context = started.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
    context.set_default_timeout(120_000)  # milliseconds; the machine may be busy
    said: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        page.goto(path.as_uri())
        yield page
        assert said == []
    finally:
        context.close()


def violations(page: Any) -> list[str]:
    """Return what axe-core objects to, one line for each element; skip the test if axe-core is missing."""
    if not AXE.exists():
        pytest.skip("needs axe-core: npm install --no-save --no-package-lock axe-core")
    page.evaluate(AXE.read_text(encoding="utf-8"))  # as the debugger does, past the policy of the page
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]
