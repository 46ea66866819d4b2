"""Exceptions of the package, and the form of their messages: the argument, the wanted value, the value it got."""

import difflib
import heapq
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

_LONGEST = 200
"""Most letters of a name that a message shows."""
_CLOSE_LOOKS, _LIKELY, _PAIRS = 1000, 200, 20
"""Most names that are compared letter by letter; from more names, pairs of letters select so many."""


class UnknownNameError(ValueError):
    """A label, layer, unit or word that does not exist; the message names the five nearest."""


class UnsafeFileError(ValueError):
    """A file that would run code when it is read (pickle), or a path that leaves its folder."""


class CorruptFileError(ValueError):
    """A file whose content does not match its recorded sha256 or its format."""


class AnotherRunError(ValueError):
    """A checkpoint of a run of another configuration; nothing is changed in its folder."""


class StorageError(OSError):
    """A result could not be written; files that were written before are intact."""


class RefusedInputError(ValueError, RuntimeError):
    """The user's own model or preprocess raised an error at its input; the message names both, the cause is chained."""


class NoRoomError(ValueError):
    """A limit of memory into which no plan fits; the message names the smallest limit that one needs.

    Attributes:
        least: that limit, in bytes.
    """

    def __init__(self, message: str, least: int = 0) -> None:
        super().__init__(message)
        self.least = least


class NonFiniteError(ArithmeticError):
    """A loss, gradient or image is NaN or infinite; the message names the iteration or step.

    Attributes:
        last_good: the best state before the failure, or None.
        finished: results of the same call that were done before the failure.
    """

    last_good: object | None = None
    finished: Sequence[object] = ()


@contextmanager
def keeping(name: str, value: Callable[[], object]) -> Iterator[None]:
    """Give any error that passes an attribute with what was reached, unless it has one of that name already.

    Args:
        name: "last_good" or "finished"; see ``NonFiniteError``.
        value: what was reached, asked for only when an error passes.
    """
    try:
        yield
    except BaseException as error:
        vars(error).setdefault(name, value())
        raise


def describe(argument: str, wanted: str, got: object) -> str:
    """Return the package's message form: ``argument: wanted ..., got ...``."""
    return f"{argument}: wanted {wanted}, got {got}"


def wrong_value(argument: str, wanted: str, got: object) -> ValueError:
    """Return (not raise) a ValueError for a shape, dtype, device or value."""
    return ValueError(describe(argument, wanted, got))


def wrong_type(argument: str, wanted: str, got: object) -> TypeError:
    """Return (not raise) a TypeError for an object of the wrong kind."""
    return TypeError(describe(argument, wanted, f"{type(got).__name__}"))


def first_line(error: BaseException) -> str:
    """Return what kind of error other code raised, and the first line of its message if it has one."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def unknown_name(argument: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Return (not raise) an error that names the five known names nearest to ``name``, which may be of any kind."""
    options, text = list(known), str(name)[:_LONGEST]
    nearest = difflib.get_close_matches(text, _likely(text, options), n=5, cutoff=0.0)
    wanted = f"one of {len(options)} known names, nearest: {', '.join(option[:_LONGEST] for option in nearest)}"
    return UnknownNameError(describe(argument, wanted, repr(text) if isinstance(name, str) else repr(name)[:_LONGEST]))


def callers_level() -> int:
    """Return the ``stacklevel`` at which a warning of the function that asks names the line of the user's code."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("diffexplain_fast", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def _likely(name: str, options: Sequence[str]) -> list[str]:
    """Return the names that share most pairs of letters; comparing a name letter by letter takes about 0.1 ms."""
    if len(options) <= _CLOSE_LOOKS:
        return list(options)
    places = range(len(name) - 1)
    pairs = {name[i : i + 2] for i in places[:: max(1, len(places) // _PAIRS)]} or {name}
    shared = [sum(map(option.__contains__, pairs)) for option in options]
    counts = Counter(shared)
    least = max(counts)
    while least > 0 and sum(count for number, count in counts.items() if number >= least) < _LIKELY:
        least -= 1
    candidates = {option: number for option, number in zip(options, shared, strict=True) if number >= least}
    return heapq.nsmallest(_LIKELY, candidates, key=lambda option: (-candidates[option], abs(len(option) - len(name))))
