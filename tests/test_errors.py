"""The form of error messages."""

import pytest

from diffexplain_fast.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  too large\nmore"), "ValueError: too large"),
        (RuntimeError(), "RuntimeError"),
        (KeyError("name"), "KeyError: 'name'"),
        (OSError(" \n "), "OSError"),
    ],
)
def test_the_first_line_of_an_error_names_its_kind(error: Exception, line: str) -> None:
    assert first_line(error) == line
