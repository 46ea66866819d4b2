"""An audit that is killed at many moments ends with the same table as one that is not."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.runs.progress import Progress
from tests.auditing import quick_audit
from tests.killing import KILLED, KILLS, WHOLE, partial_explain


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_an_audit_that_is_killed_again_and_again_ends_with_the_same_result(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.killing", str(tmp_path)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counted = json.loads(done.stdout.splitlines()[-1])
    assert counted["ended"] and counted["kills"] >= KILLS and counted["renames"] > 3 * KILLS
    whole, killed = (Audit.load(tmp_path / name / "audit") for name in (WHOLE, KILLED))
    assert repr(killed.rows) == repr(whole.rows) and killed.verdicts == whole.verdicts
    assert repr(killed.found) == repr(whole.found) and len(whole.found) == 2
    eyes = [audit.settings.pop("eye_fingerprint") for audit in (whole, killed)]
    assert all(eyes) and eyes[0] != eyes[1]  # of a function: of each process another one
    assert killed.settings == whole.settings and killed.interactions == whole.interactions
    assert all(np.array_equal(killed.outcomes[name], array) for name, array in whole.outcomes.items())
    names = [sorted(path.name for path in (tmp_path / name / "pool").glob("*.png")) for name in (WHOLE, KILLED)]
    assert names[0] == names[1]


def test_an_audit_that_is_interrupted_searches_no_prompt_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Explainer, "explain", partial_explain(Explainer.explain))
    options = {"explain": True, "targets": ["fish", "tree"], "own_pictures": 0}

    def run(last: str) -> list[str]:
        """Audit until a phase begins, and return the phases of all events."""
        phases: list[str] = []

        def heard(event: Progress) -> None:
            if event.phase == last:
                raise KeyboardInterrupt
            phases.append(event.phase)

        with suppress(KeyboardInterrupt):
            quick_audit(tmp_path, callback=heard, **options)
        return phases

    first, second = run("draw"), run("found")
    assert first.count("optimise") > 2 and "optimise" not in second and "draw" in second
