"""Exceptions of the package, and the one form of message they share: the argument, what was wanted, what was got."""

import difflib
from collections.abc import Iterable


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
    nearest = difflib.get_close_matches(name, options, n=5, cutoff=0.0)
    wanted = f"one of {len(options)} known names, nearest: {', '.join(nearest)}"
    return UnknownNameError(describe(argument, wanted, repr(name)))
