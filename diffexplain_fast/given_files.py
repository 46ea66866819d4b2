"""Files that a caller names: what cannot be read is named by its argument."""

from pathlib import Path

from diffexplain_fast.errors import describe, wrong_value


def given_bytes(argument: str, wanted: str, path: str | Path) -> bytes:
    """Return the content of a file.

    Args:
        argument: what the file is for, as messages call it.
        wanted: what it has to be.
        path: of the file.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: a folder, or a file that must not be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(describe(argument, wanted, f"{str(path)!r}, which does not exist")) from error
    except OSError as error:
        raise wrong_value(argument, wanted, f"{str(path)!r}: {error.strerror}") from error
