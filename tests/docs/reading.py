"""The pages of the documentation as the tests read them: code blocks and commands."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = tuple(sorted(path.name for path in DOCS.glob("*.md")))
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
"""A line that the site replaces by a file."""


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language in a page.

    Args:
        text: the page, in Markdown.
        language: name after the fence, such as "python".
    """
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return the commands of the shell blocks of a page, split into words."""
    lines = "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def read(page: str) -> str:
    """Return the text of a page."""
    return (DOCS / page).read_text(encoding="utf-8")
