"""Progress bars with the time left, driven by the callback of a run, where somebody can see them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from diffexplain_fast.environment import ranks
from diffexplain_fast.errors import wrong_type
from diffexplain_fast.runs.progress import Phase, Progress

_PHASES: dict[Phase, str] = {
    "screen": "choosing a start",
    "search": "searching",
    "optimise": "optimising",
    "name": "naming",
    "evaluate": "scoring",
    "draw": "drawing",
    "again": "drawing again",
    "own": "drawing own objects",
    "pairs": "drawing pairs",
    "found": "trying what was found",
    "photographs": "looking at own pictures",
    "interventions": "asking about pairs",
    "edit": "editing",
    "placebo": "editing without a change",
    "joint": "editing two at once",
    "flip": "looking for counterfactuals",
    "train": "training",
    "measure": "measuring the truth",
}


class ProgressBars:
    """One bar per phase of a run; a context manager, and the ``callback`` of what runs long.

    Of several ranks, only the first one shows bars.

    Args:
        name: text in front of every bar.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._phase: str | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: Progress) -> None:
        if self._bar is None or event.phase != self._phase:
            if self._bar is not None:
                self._bar.close()
            self._phase = event.phase
            # A resumed run begins in the middle; its earlier steps must not count in the estimate of the time left.
            self._bar = bar_class()(
                initial=max(event.iteration - 1, 0),
                total=event.iterations,
                desc=f"{self.name}: {_PHASES[event.phase]}",
                mininterval=0.5,
                leave=False,
                disable=ranks().rank > 0,
            )
        self._bar.total = event.iterations
        if event.loss is not None:
            self._bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
        self._bar.update(event.iteration - self._bar.n)


def check_bars(callback: object, progress: object) -> None:
    """Refuse a callback and a wish for bars of another kind; before any work.

    Raises:
        TypeError: see above.
    """
    if callback is not None and not callable(callback):
        raise wrong_type("callback", "a function of one Progress, or None", callback)
    if progress is not None and not isinstance(progress, bool):
        raise wrong_type("progress", "True, False or None", progress)


@contextmanager
def bars_beside(
    callback: Callable[[Progress], None] | None, progress: bool | None, name: str
) -> Iterator[Callable[[Progress], None] | None]:
    """Give the callback of a run: the caller's, bars, or both.

    Args:
        callback: function of the caller, or None.
        progress: True for bars, False for none, None for bars in a terminal or notebook if there is no callback.
        name: text in front of every bar.
    """
    if progress is None:
        progress = callback is None and (in_notebook() or in_terminal())
    if not progress:
        yield callback
        return
    with ProgressBars(name) as bars:

        def both(event: Progress) -> None:
            bars(event)
            if callback is not None:
                callback(event)

        yield both


def in_terminal() -> bool:
    """Return whether somebody sees what is written to stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def bar_class() -> type[tqdm]:
    """Return tqdm's bar for a notebook, or for a terminal."""
    if in_notebook():
        from tqdm.auto import tqdm as notebook_bar

        return notebook_bar
    return tqdm
