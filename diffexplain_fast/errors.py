"""Exceptions of the package, and the one form of message they share: the argument, what was wanted, what was got."""

import difflib
import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

_LONGEST = 200
"""Letters of a name that a message shows."""
_CLOSE_LOOKS, _LIKELY, _PAIRS = 1000, 200, 20
"""Names that are all looked at closely; of more those that are, and the pairs of letters that choose them."""


class UnknownNameError(ValueError):
    """A label, layer, unit or word that does not exist; the message names the five nearest."""


class UnsafeFileError(ValueError):
    """A file that would run code when read (pickle), or a path that leaves its folder."""


class CorruptFileError(ValueError):
    """A file whose content does not match its recorded sha256 or its format."""


class StorageError(OSError):
    """A result could not be written; what was written before is intact."""


class NonFiniteError(ArithmeticError):
    """A loss, gradient or image is NaN or infinite; the message names the iteration or step.

    Attributes:
        last_good: what was found before the failure, None if nothing was.
    """

    last_good: object | None = None


def describe(argument: str, wanted: str, got: object) -> str:
    """Return the package's message form: ``argument: wanted ..., got ...``."""
    return f"{argument}: wanted {wanted}, got {got}"


def wrong_value(argument: str, wanted: str, got: object) -> ValueError:
    """Return (not raise) a ValueError for a shape, dtype, device or value."""
    return ValueError(describe(argument, wanted, got))


def wrong_type(argument: str, wanted: str, got: object) -> TypeError:
    """Return (not raise) a TypeError for an object of the wrong kind."""
    return TypeError(describe(argument, wanted, f"{type(got).__name__}"))


def unknown_name(argument: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return (not raise) an error that names the five known names nearest to ``name``."""
    options = list(known)
    nearest = difflib.get_close_matches(name[:_LONGEST], _likely(name[:_LONGEST], options), n=5, cutoff=0.0)
    wanted = f"one of {len(options)} known names, nearest: {', '.join(one[:_LONGEST] for one in nearest)}"
    return UnknownNameError(describe(argument, wanted, repr(name[:_LONGEST])))


def _likely(name: str, options: Sequence[str]) -> list[str]:
    """Return the names worth a close look, which takes about 0.1 ms each: those that share most pairs of letters."""
    if len(options) <= _CLOSE_LOOKS:
        return list(options)
    places = range(len(name) - 1)
    pairs = {name[i : i + 2] for i in places[:: max(1, len(places) // _PAIRS)]} or {name}
    shared = [sum(map(option.__contains__, pairs)) for option in options]
    counts = Counter(shared)
    least = max(counts)
    while least > 0 and sum(count for number, count in counts.items() if number >= least) < _LIKELY:
        least -= 1
    found = {option: number for option, number in zip(options, shared, strict=True) if number >= least}
    return heapq.nsmallest(_LIKELY, found, key=lambda option: (-found[option], abs(len(option) - len(name))))
