"""What a pipeline draws in place of a prompt, where its user has put a function of prompts into it."""

import hashlib
import json
from collections.abc import Callable
from itertools import combinations

from diffexplain_fast.models.transformers_clip import Tokenizer

Convert = Callable[[str, Tokenizer], str]
"""A pipeline's ``maybe_convert_prompt``: prompt and tokenizer to the prompt that is drawn."""
_MOST_PAIRED = 100
"""Most words that are also asked for in pairs."""
_WORD_END = "</w>"
_LIBRARY = "diffusers"


def rewritten_sha256(convert: Convert | None, tokenizer: Tokenizer) -> str | None:
    """Return a sha256 of what is drawn in place of words; None where each is drawn as it is written.

    Every token of the vocabulary is asked for as a word, and the first hundred that are changed also in pairs, because
    their order may matter. A function that changes nothing but longer phrases is not told apart.

    Args:
        convert: function of a pipeline; that of diffusers itself changes the words of a textual inversion only, which
            the vocabulary tells, and counts as none.
        tokenizer: of the text encoder.
    """
    if convert is None or (getattr(convert, "__module__", None) or "").partition(".")[0] == _LIBRARY:
        return None
    words = sorted({word for token in tokenizer.get_vocab() if (word := token.removesuffix(_WORD_END))})
    changed = {word: drawn for word in words if (drawn := convert(word, tokenizer)) != word}
    pairs = [f"{first} {second}" for first, second in combinations([*changed][:_MOST_PAIRED], 2)]
    found = [*changed.items(), *((text, convert(text, tokenizer)) for text in pairs)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest() if changed else None
