"""What of the card's software without the card can be tried without downloading it."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_built_in_the_tree() -> None:
    folder = ROOT / "benchmarks" / "environment"
    script = ROOT / "benchmarks" / "dry_run.sh"
    done = subprocess.run([script, "benchmarks/../benchmarks/environment"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not folder.exists()
    assert done.stderr == f"dry_run: wanted a folder outside the tree, got {folder}\n"
