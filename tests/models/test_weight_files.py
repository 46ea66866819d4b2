"""The error of a failed download names the argument of the download."""

import errno

import pytest
from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

from diffexplain_fast.models.weight_files import asking_hub


def wrapped() -> OSError:
    """Return the error of a library if the hub cannot be reached: advice, with the cause below it."""
    error = OSError("Please check out the root cause in the stacktrace above.")
    error.__cause__ = ConnectionError("no route\nto the host")
    return error


ENDS = {
    "wrapped": (wrapped(), "(ConnectionError: no route)"),
    "refused": (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
    "late": (HTTPError("timed out"), "(HTTPError: timed out)"),
    "cache": (LocalEntryNotFoundError("nothing cached"), "nothing cached"),
    "name": (HFValidationError("use alphanumeric chars"), "use alphanumeric chars"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_failed_download_names_the_argument_the_folder_and_the_hubs_error(name: str) -> None:
    error, said = ENDS[name]
    with pytest.raises(FileNotFoundError) as caught, asking_hub("pipeline", "typo"):
        raise error
    text = str(caught.value)
    assert text.startswith("pipeline: wanted an existing folder, or a hub id") and "\n" not in text
    assert "got 'typo': there is no such folder, and the hub could not be reached or refused" in text and said in text


def test_a_full_disk_keeps_its_own_error() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, asking_hub("pipeline", "someone/large"):
        raise full
    assert caught.value is full
