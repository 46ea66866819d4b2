"""An audit whose pictures are drawn by workers of Ray: the same table, also where a worker is killed."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.runs.ray_workers import RayWorkers
from tests.auditing import quick_audit
from tests.tiny import tiny_sd, tiny_sd2


def fragile(folder: Path, device: str) -> Pipeline:
    """Return the tiny pipeline, which kills the first process in which it encodes a caption."""
    pipeline = load_pipeline(tiny_sd())
    encode = pipeline.encode_text

    def encoded(texts: Any, **options: Any) -> Any:
        try:
            (folder / "killed").touch(exist_ok=False)
        except FileExistsError:
            return encode(texts, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    pipeline.encode_text = encoded  # type: ignore[method-assign]
    return pipeline


def other(device: str) -> Pipeline:
    """Return another pipeline."""
    return load_pipeline(tiny_sd2())


def test_workers_go_on_with_an_interrupted_run_and_one_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    whole = quick_audit(tmp_path / "whole")

    def interrupt(event: object) -> None:
        if getattr(event, "iteration", 0) >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_audit(tmp_path / "pool", callback=interrupt)
    audit = quick_audit(tmp_path / "pool", ray=RayWorkers("auto", partial(fragile, tmp_path)))
    assert (tmp_path / "killed").exists()
    assert repr(audit.rows) == repr(whole.rows) and audit.verdicts == whole.verdicts
    assert audit.settings["pictures_drawn"] == whole.settings["pictures_drawn"] - 8
    pools = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")} for name in ("whole", "pool")]
    assert pools[0] == pools[1]


def test_workers_with_another_pipeline_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.raises(ValueError, match=r"workers with the same pipeline.*pipeline_fingerprint"):
        quick_audit(tmp_path / "pool", ray=RayWorkers("auto", other))
    assert not list((tmp_path / "pool").glob("*.png"))
