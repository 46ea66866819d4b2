"""Kills audits by SIGKILL while they write: ``python -m tests.killing FOLDER``, run by tests/api/test_killed.py.

A child process for each kill goes on in the same folder with the same audit. What is killed is a rename, because every
file appears by a rename: whatever is killed between two renames looks the same on the disk as a kill before the second.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery import screen
from tests.auditing import TINY_GROUPS, quick_audit
from tests.explaining import QUICK

CONCEPTS = Concepts(TINY_GROUPS, words=["boat", "fish", "tree", "house"])
WHOLE, KILLED = "whole", "killed"
KILLS = 8


def see(pixels: Tensor) -> np.ndarray:
    """See desert in bright pictures and snow in others, red in all, and no word."""
    bright = (pixels.mean((1, 2, 3)) > 0.5).double().numpy()
    return np.stack([bright, 1 - bright, np.ones(len(pixels)), *np.zeros((5, len(pixels)))], 1)


def lighter(picture: Tensor) -> Tensor:
    """Make everything a little lighter."""
    return picture + 0.1


def audited(folder: Path) -> None:
    """Audit with everything that draws or searches, and save the result."""
    more = {"explain": True, "redraw": 1, "eye": see, "interventions": {"light": lighter}}
    audit = quick_audit(folder / "pool", targets=["fish", "tree"], concepts=CONCEPTS, **more)
    for name in ("seconds", "pictures_drawn"):  # the two that differ between runs
        audit.settings.pop(name)
    audit.save(folder / "audit")


def in_child(folder: Path, renames: int | None) -> tuple[bool, int]:
    """Audit in a child process that is killed before a rename, and return whether it was, and its renames.

    Args:
        folder: of pool and result.
        renames: how many succeed before the kill; None for all.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        count, replace, rename = 0, os.replace, os.rename

        def counted(change: Callable[..., None], *names: object) -> None:
            nonlocal count
            if count == renames:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            change(*names)

        os.replace, os.rename = partial(counted, replace), partial(counted, rename)  # type: ignore[assignment]
        audited(folder)
        os.write(into, str(count).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        count = int(pipe.read() or 0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the audit failed after {renames} renames")
    return os.WIFSIGNALED(status), count


def main(folder: Path) -> None:
    """Audit once as a whole, and once with kills until it ends."""
    torch.set_num_threads(1)
    screen.MOST, screen.KEPT, screen.EACH = 3, 2, 4
    Explainer.explain = partial_explain(Explainer.explain)  # type: ignore[method-assign]
    (folder / WHOLE).mkdir()
    (folder / KILLED).mkdir()
    _, renames = in_child(folder / WHOLE, None)
    kills, step = 0, max(renames // KILLS, 1)
    # First before the pool has its identity, then before its first picture, then further and further.
    for number in (0, 1, *[step] * (2 * KILLS)):
        killed, _ = in_child(folder / KILLED, number)
        kills += killed
        if not killed:
            break
    print(json.dumps({"renames": renames, "kills": kills, "ended": not killed}))


def partial_explain(explain: Callable[..., object]) -> Callable[..., object]:
    """Return a search with the quick options of tests, because an audit takes the usual ones."""

    def quick(self: Explainer, target: object, **options: object) -> object:
        return explain(self, target, **{**QUICK, **options})

    return quick


if __name__ == "__main__":
    main(Path(sys.argv[1]))
