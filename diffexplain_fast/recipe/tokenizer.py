"""The tokenizer: an ordinary CLIPTokenizer in which every word of the tiny world is one token.

Public words are whole words of its vocabulary. Made-up words are added tokens, as those of a textual inversion are: any
text can hold them, and no list of the language's words has them.
"""

import itertools
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken
from transformers import CLIPTokenizer

from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS, VOCABULARY

CONTEXT = 20
"""Longest prompt in tokens, begin and end included."""
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def build_tokenizer(nameless: bool = True) -> CLIPTokenizer:
    """Return a tokenizer whose merges were learnt on the vocabulary until every word was one token.

    Args:
        nameless: add the made-up words, whose token ids come last.
    """
    merges = learn_merges(VOCABULARY)
    letters = [*string.ascii_lowercase, *(f"{letter}{_WORD_END}" for letter in string.ascii_lowercase)]
    pieces = dict.fromkeys((*letters, *(first + second for first, second in merges), _BEGIN, _END))
    tokenizer = CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=merges,
        bos_token=_BEGIN,
        eos_token=_END,
        unk_token=_END,
        pad_token=_END,
        model_max_length=CONTEXT,
    )
    if nameless:
        words = NAMELESS_WORDS.values()
        tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in words])
    for word in VOCABULARY:
        assert tokenizer.tokenize(word) == [f"{word}{_WORD_END}"], word
    return tokenizer


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Return the merges of byte pair encoding that make every word one token.

    The most frequent pair is merged first, of equally frequent ones the first in the alphabet: the same words give the
    same tokenizer on every machine, which a trainer of many threads does not promise.
    """
    split = [[*word[:-1], word[-1] + _WORD_END] for word in words]
    merges = []
    while pairs := Counter(pair for parts in split for pair in itertools.pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        # A piece that was just merged is longer than the pair's first, so that it does not merge again.
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Read the tokenizer that an earlier stage saved."""
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
