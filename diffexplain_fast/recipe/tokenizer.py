"""The tokenizer: an ordinary CLIPTokenizer in which every word of the tiny world is one token."""

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from diffexplain_fast.tinyworld.words import VOCABULARY

CONTEXT = 20
"""Longest prompt in tokens, begin and end included."""
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """Return a tokenizer whose merges were learnt on the vocabulary until every word was one token."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        end_of_word_suffix="</w>",
        initial_alphabet=list(string.ascii_lowercase),
        show_progress=False,
    )
    learner.train_from_iterator(VOCABULARY, trainer)
    pieces = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    vocabulary = {piece: i for i, (piece, _) in enumerate(pieces)}
    vocabulary |= {_BEGIN: len(vocabulary), _END: len(vocabulary) + 1}
    merges = [tuple(pair) for pair in _merges(learner)]
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=_BEGIN,
        eos_token=_END,
        unk_token=_END,
        pad_token=_END,
        model_max_length=CONTEXT,
    )
    for word in VOCABULARY:
        assert tokenizer.tokenize(word) == [f"{word}</w>"], word
    return tokenizer


def _merges(learner: Tokenizer) -> list[list[str]]:
    return json.loads(learner.to_str())["model"]["merges"]


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Read the tokenizer that an earlier stage saved."""
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
