"""The words that can be screened: those of a small vocabulary, or the labels of the classes."""

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.models.pipeline import Pipeline

SMALL_VOCABULARY = 256
"""Up to this many words, screening them all costs less than an optimisation."""
_SHORTEST_WORD = 3
"""Letters; shorter entries of a vocabulary are single letters, articles and prepositions."""


def fits(pipeline: Pipeline, text: str, n_tokens: int) -> bool:
    """Whether a text has at least one token, and no more than there are soft tokens."""
    return 1 <= len(pipeline.token_embeddings(text)) <= n_tokens


def candidates(problem: Problem, options: Options) -> list[str]:
    """Words to screen: those given, else a small vocabulary's whole words, else the labels (for "auto", if few)."""
    pipeline, words = problem.pipeline, list(options.candidates or ())
    if not words:
        if vocabulary_is_small(pipeline):
            vocabulary = pipeline.words()
            whole = dict.fromkeys(filter(is_whole, vocabulary))
            words = [word for word in whole if len(pipeline.token_embeddings(word)) == 1]
        else:
            labels = list(dict.fromkeys(problem.classifier.labels or ()))
            words = labels if options.start == "screen" or len(labels) <= SMALL_VOCABULARY else []
    return [word for word in words if fits(pipeline, word, options.n_tokens)]


def is_whole(word: str) -> bool:
    """Whether an entry of a vocabulary is a word that can name something, and no letter, article or preposition."""
    return len(word) >= _SHORTEST_WORD and word.isalpha()


def vocabulary_is_small(pipeline: Pipeline) -> bool:
    """Whether every word of the vocabulary is worth drawing."""
    return len(pipeline.words()) <= SMALL_VOCABULARY
