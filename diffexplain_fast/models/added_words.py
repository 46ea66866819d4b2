"""Words that somebody added to a tokenizer, such as those of a textual inversion: they have no end-of-word mark."""

import re
from collections.abc import Collection, Mapping
from typing import Protocol

from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS, VOCABULARY

_NUMBERED = re.compile(r"(.+)_\d+")
"""Further vectors of a textual inversion, as diffusers calls them: no words, but parts of one."""


class _AddedToken(Protocol):
    """A token that was added to a tokenizer."""

    content: str
    special: bool


def added_words(tokenizer: object, others: Collection[str]) -> dict[int, str]:
    """Return id and text of the added tokens that are whole words of one vector: neither special nor part of a word.

    Not the made-up words of the tiny world: they stand for what a generator can draw and no public word says.

    Args:
        tokenizer: transformers CLIPTokenizer.
        others: the words of its vocabulary that were not added.
    """
    tokens: Mapping[int, _AddedToken] = getattr(tokenizer, "added_tokens_decoder", {})
    known = {token.content for token in tokens.values()}
    several = {found[1] for text in known if (found := _NUMBERED.fullmatch(text)) and found[1] in known}
    made_up = {*NAMELESS_WORDS.values()}
    hidden = made_up if made_up <= known and {*VOCABULARY} <= {*others} else set[str]()
    return {
        i: token.content
        for i, token in tokens.items()
        if not token.special
        and token.content.strip()
        and token.content not in several | hidden
        and not ((found := _NUMBERED.fullmatch(token.content)) and found[1] in several)
    }
