"""Which tokens of a caption take over the attention of which tokens of another one, word by word."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from diffexplain_fast.models.pipeline import Pipeline

_WORD_END = "</w>"
Word = tuple[int, ...]
"""Token ids of a word."""


class Taken(NamedTuple):
    """What a token of the target takes over.

    Attributes:
        places: of the source's context whose attention is summed; none for a token that keeps its own attention.
        share: of that sum, from above 0 to 1.
    """

    places: tuple[int, ...]
    share: float


OWN = Taken((), 1.0)


def words_of(pipeline: Pipeline, text: str) -> list[Word]:
    """Return the token ids of a text without begin and end, word by word, as the first tokenizer marks words' ends.

    All vectors of a textual inversion are one word. Where no token has such a mark, each is a word.
    """
    tokenizer, ids = pipeline.tokenizers[0], pipeline.token_ids(text)
    tokens, added = tokenizer.convert_ids_to_tokens(ids), {*getattr(tokenizer, "added_tokens_encoder", {})}
    marked, words, first = any(token.endswith(_WORD_END) for token in tokens), list[Word](), 0
    for i, token in enumerate(tokens, start=1):
        following = tokens[i] if i < len(tokens) else ""
        vector = following in added and following.startswith(f"{tokens[first]}_")  # as diffusers names them: <cat>_1
        if not vector and (not marked or token.endswith(_WORD_END) or token in added or following in added):
            words.append(tuple(ids[first:i]))
            first = i
    return [*words, tuple(ids[first:])] if first < len(ids) else words


def aligned(source: Sequence[Word], target: Sequence[Word], length: int, left: bool = False) -> list[Taken]:
    """Return for each of ``length`` places of a target's context what it takes over from the source's.

    Tokens of an equal word, and of words that replace as many others, take the places of these one by one. Where a word
    replaces one of another number of tokens, each of its tokens takes an equal share of all of them, so that the whole
    word has the attention that the other one had. A word that only the target has keeps its own. Begin, end and padding
    correspond.

    Args:
        source: words of the source, without begin and end.
        target: words of the target, without begin and end.
        length: places of the context, at least 2 more than either has tokens.
        left: whether padding is before begin, not after end.

    Source: the replacement of words in the program of Hertz et al. (arXiv 2208.01626), for words of any caption.
    """
    counts = [sum(map(len, words)) for words in (source, target)]
    begin, begin_target = (length - count - 2 if left else 0 for count in counts)
    before = [max(begin - by, 0) for by in range(begin_target, -1, -1)]
    after = [min(begin + counts[0] + 1 + by, length - 1) for by in range(length - begin_target - counts[1] - 1)]
    body = _replaced(source, target, begin + 1)
    return [*(Taken((place,), 1.0) for place in before), *body, *(Taken((place,), 1.0) for place in after)]


def _replaced(source: Sequence[Word], target: Sequence[Word], first: int) -> list[Taken]:
    """Return what each token of the target's words takes over; the source's tokens begin at a place."""
    places, start = list[tuple[int, ...]](), first
    for word in source:
        places.append(tuple(range(start, start + len(word))))
        start += len(word)
    found: list[Taken] = []
    for kind, a, a_end, b, b_end in SequenceMatcher(None, source, target, autojunk=False).get_opcodes():
        pairs = kind == "equal" or (kind == "replace" and a_end - a == b_end - b)
        for i, word in enumerate(target[b:b_end]):
            known = places[a + i] if pairs else ()
            if len(known) == len(word):
                found += [Taken((place,), 1.0) for place in known]
            else:
                found += [Taken(known, 1 / len(word)) if known else OWN] * len(word)
    return found
