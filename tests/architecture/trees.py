"""Small source trees that keep or break a rule."""

from pathlib import Path

DOC = '"""Said."""\n'


def tree(folder: Path, files: dict[str, str]) -> Path:
    """Write the files of a package, given by their path in it, with an ``__init__.py``, and return the folder."""
    for place, content in {"__init__.py": DOC, **files}.items():
        path = folder / "diffexplain_fast" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder
