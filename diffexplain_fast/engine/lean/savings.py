"""Repeated work that the fast engine avoids. Each saving can be switched off; the gradient stays the same."""

from collections.abc import Collection

from diffexplain_fast.errors import unknown_name, wrong_type

SAVINGS = ("text", "time", "rows", "first", "upsampling", "skips")
"""Text keys and values projected once for all steps; time embeddings kept from call to call; equal rows of guidance run
once until they meet the text; the first recorded step's unconditional rows without a graph; the UNet's upsampling
convolutions at the low resolution; skip connections read where they are, not concatenated."""


def parse_savings(savings: str | Collection[str]) -> frozenset[str]:
    """Return the names of the chosen savings.

    Args:
        savings: "all", or names from ``SAVINGS``.

    Raises:
        TypeError: neither "all" nor a collection of names.
        UnknownNameError: an unknown saving.
    """
    if savings == "all":
        return frozenset(SAVINGS)
    if isinstance(savings, str) or not isinstance(savings, Collection):
        raise wrong_type("savings", "'all' or a collection of names", savings)
    for name in savings:
        if name not in SAVINGS:
            raise unknown_name("savings", str(name), SAVINGS)
    return frozenset(savings)
