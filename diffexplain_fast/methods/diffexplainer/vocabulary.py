"""The words that can be screened: those of a small vocabulary, or the labels of the classes."""

from collections.abc import Iterable

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.models.added_words import added_words
from diffexplain_fast.models.pipeline import Pipeline

SMALL_VOCABULARY = 256
"""Up to this many words, screening them all costs less than an optimisation."""
NEUTRAL = "a"
"""Fills the soft tokens before a text; of a tokenizer that does not know it, whatever stands in its place."""
NO_WORDS = ("auto", "screen", "gradient", "class_name", "random")
"""Starts that are no words of the caller."""
_SHORTEST_WORD = 3
"""Letters; shorter entries of a vocabulary are single letters, articles and prepositions."""


def fits(pipeline: Pipeline, text: str, n_tokens: int) -> bool:
    """Whether a text has at least one token, no more than there are soft tokens, and none for what no token spells."""
    return _misfit(pipeline, text, n_tokens) is None


def check_fits(argument: str, pipeline: Pipeline, text: str, n_tokens: int) -> None:
    """Refuse a text that soft tokens cannot say.

    Raises:
        ValueError: the text has no token, more than ``n_tokens``, or a character that a tokenizer does not know.
    """
    if text != NEUTRAL and (why := _misfit(pipeline, text, n_tokens)):
        raise wrong_value(argument, *why)


def check_given(pipeline: Pipeline, options: Options) -> None:
    """Refuse words of the caller that soft tokens cannot say: candidates, also where no start needs them, and a start.

    Raises:
        ValueError: see ``check_fits``; the message names the word, and says which other candidates cannot be said.
    """
    words, n = (word for word in options.candidates or () if word != NEUTRAL), options.n_tokens
    wrong = {word: why for word in words if (why := _misfit(pipeline, word, n))}
    if wrong:
        (wanted, got), *others = wrong.values()
        more = f"; nor can {', '.join(map(repr, [*wrong][1:]))} be said" if others else ""
        raise wrong_value("candidates", wanted, got + more)
    if options.start not in NO_WORDS:
        check_fits("start", pipeline, options.start, n)


def _misfit(pipeline: Pipeline, text: str, n_tokens: int) -> tuple[str, str] | None:
    """Return what was wanted and what was got where soft tokens cannot say a text, None where they can."""
    if not pipeline.knows(text):
        return "text whose every character the tokenizer knows", repr(text)
    if not 1 <= (count := len(pipeline.token_embeddings(text))) <= n_tokens:
        return f"a text of 1 to n_tokens = {n_tokens} tokens", f"{text!r} with {count}"
    return None


def candidates(problem: Problem, options: Options) -> list[str]:
    """Words to screen: those given, else a small vocabulary's whole words, else the labels (for "auto", if few).

    Of words that the tokenizer reads as the same the first is there; blanks around words say nothing.
    """
    pipeline, words = problem.pipeline, list(options.candidates or ())
    if not words and vocabulary_is_small(pipeline):
        names = pipeline.words()
        whole = dict.fromkeys(names[place] for place in whole_words(pipeline))
        words = [word for word in whole if len(pipeline.token_embeddings(word)) == 1]
    fitting = [word for word in words or _labels(problem, options) if fits(pipeline, word, options.n_tokens)]
    return distinct(pipeline, fitting)


def distinct(pipeline: Pipeline, texts: Iterable[str]) -> list[str]:
    """Return texts with one blank between their words, the first of those that are the same soft tokens."""
    found = dict[bytes, str]()
    for text in texts:
        plain, said = " ".join(text.split()), said_by(pipeline, text)
        found.setdefault(said, plain if plain == text or said_by(pipeline, plain) == said else text)
    return [*found.values()]


def said_by(pipeline: Pipeline, text: str) -> bytes:
    """Return what a text is as soft tokens: the same bytes for texts that are drawn alike, "Sea" and " sea" for one."""
    return pipeline.token_embeddings(text).detach().float().cpu().numpy().tobytes()


def labels_left_out(problem: Problem, options: Options) -> list[str]:
    """Return the labels that no pictures are drawn of: unknown to the tokenizer, or wanted as words but too long."""
    pipeline, names, screens = problem.pipeline, problem.classifier.labels or (), options.start in ("auto", "screen")
    as_words = {*(_labels(problem, options) if screens and not options.candidates else ())}
    if options.start == "auto" and problem.label is not None and names:
        as_words.add(problem.classifier.label_name(problem.label))
    n = options.n_tokens
    return [x for x in dict.fromkeys(names) if not (fits(pipeline, x, n) if x in as_words else pipeline.knows(x))]


def _labels(problem: Problem, options: Options) -> list[str]:
    """Return the labels that are screened where no candidates are given, none of a pipeline with a small vocabulary."""
    labels = list(dict.fromkeys(problem.classifier.labels or ()))
    few = options.start == "screen" or len(labels) <= SMALL_VOCABULARY
    return labels if few and not vocabulary_is_small(problem.pipeline) else []


def whole_words(pipeline: Pipeline) -> list[int]:
    """Return the places in ``pipeline.words()`` of those that can name something: no letters, articles, prepositions.

    What somebody added to the tokenizer is a name, whatever its letters are.
    """
    names = pipeline.words()
    added = {*added_words(pipeline.tokenizers[0], names).values()}
    return [i for i, word in enumerate(names) if word in added or (len(word) >= _SHORTEST_WORD and word.isalpha())]


def vocabulary_is_small(pipeline: Pipeline) -> bool:
    """Whether every word of the vocabulary is worth drawing."""
    return len(pipeline.words()) <= SMALL_VOCABULARY
