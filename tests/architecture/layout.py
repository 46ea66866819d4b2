"""The place of tests: the folder with the name of the room that they test."""

from pathlib import Path

from tests.architecture.house import OTHER_TESTS, PACKAGE


def misplaced_tests(root: Path) -> list[str]:
    """Return test files in folders without the name of a room of the package or of another listed folder."""
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        folder = path.parent.relative_to(root / "tests")
        if folder.parts and folder.parts[0] not in OTHER_TESTS and not (root / PACKAGE / folder).is_dir():
            found.append(f"{path.relative_to(root).as_posix()}: {PACKAGE} has no folder {folder.as_posix()}")
    return found
