"""Bars are shown where somebody sees them, beside the caller's callback."""

import sys
from types import SimpleNamespace
from typing import get_args

import pytest

from diffexplain_fast.runs import bars
from diffexplain_fast.runs.bars import bars_beside, in_notebook
from diffexplain_fast.runs.progress import Phase, Progress


def run(callback: object = None, progress: bool | None = None) -> None:
    """Report one step of a run."""
    with bars_beside(callback, progress, "boat") as report:  # type: ignore[arg-type]
        if report is not None:
            report(Progress("optimise", 3, 4, loss=1.5))


@pytest.mark.parametrize(
    ("terminal", "callback", "progress", "shown"),
    [
        (True, False, None, True),
        (False, False, None, False),
        (True, True, None, False),
        (True, False, False, False),
        (False, False, True, True),
        (False, True, True, True),
    ],
)
def test_bars_are_shown_where_somebody_sees_them(
    terminal: bool,
    callback: bool,
    progress: bool | None,
    shown: bool,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    events: list[Progress] = []
    run(events.append if callback else None, progress)
    assert ("boat: optimising" in capsys.readouterr().err) == shown
    assert len(events) == callback


def test_every_phase_is_explained_and_has_words_for_a_bar() -> None:
    assert {*get_args(Phase)} == bars._PHASES.keys()
    assert all(f'"{phase}"' in (Progress.__doc__ or "") for phase in get_args(Phase))


def test_without_stderr_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    run()


def test_a_notebook_is_known_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    for config, is_notebook in (({"IPKernelApp": {}}, True), ({}, False)):
        shell = SimpleNamespace(config=config)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert in_notebook() == is_notebook
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()
