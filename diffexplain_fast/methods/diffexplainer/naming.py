"""A name for what a search found: words whose own pictures convince as often as those of the prompt without words.

Words are proposed by what the prompt's pictures show (``telling``), or by what resembles the prompt (``proposals``)
where no error is defined or hardly any picture convinces. Then they are drawn, alone and in pairs, and with a third
word where two are not enough. So a name is a finding about the classifier and not about the denoiser: nothing is named
where no words convince as the prompt does, or more often than not, and no word is in a name that convinces as well
without it, or nearly as well with others in its place (``replacing``).
"""

from diffexplain_fast.editing.likelihood import has_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.dictionary import score_of
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.proposals import proposed_words
from diffexplain_fast.methods.diffexplainer.replacing import Words, best_in_company, replaceable
from diffexplain_fast.methods.diffexplainer.screening import Start, look_again, soft_from_text
from diffexplain_fast.methods.diffexplainer.telling import telling_words
from diffexplain_fast.methods.diffexplainer.texts import HOPE, PROPOSED, tried, with_more
from diffexplain_fast.results.named import AS_WELL, LEAST, Named


def name_found(
    problem: Problem, options: Options, found: Start, kept: Kept, drawn: bool = False
) -> tuple[Named | None, list[Start]]:
    """Name a prompt without words.

    Args:
        problem: what is explained; its target is a class.
        options: ``n_tokens`` and ``n_validation`` matter here.
        found: the prompt; looked at again on the validation latents, if it has no score of them.
        kept: results of an interrupted run; extended here.
        drawn: whether all words that may be proposed were drawn alone before.

    Returns:
        The name, or what came nearest to one, None if the budget ended before; and texts as starts, the best first.

    Raises:
        NonFiniteError: a score or an error of the denoiser is NaN or infinite.
    """
    if problem.cost.leaves_out(NAMING):
        return None, []
    rows = problem.cost.rows
    found = found if found.score is not None else look_again(problem, found, options.n_validation, kept)
    none: tuple[list[str], list[str]] = ([], [])
    words, others = telling_words(problem, found.name, found.soft, kept) if has_error(problem.pipeline) else none
    words = words or proposed_words(problem, [found.soft])
    least = max(LEAST, AS_WELL * score_of(found))
    texts = tried(problem, options, words, others, least, kept, drawn)
    if not drawn and has_error(problem.pipeline) and not (texts and score_of(texts[0][1]) >= least):
        more, _ = telling_words(problem, found.name, found.soft, kept, of_most=True)
        words, more = [*dict.fromkeys([*words, *more])], [word for word in more if word not in words]
        # Where one of two things is enough, no word fits all pictures.
        texts = with_more(problem, options, texts, [(word,) for word in more[:PROPOSED]], kept, HOPE)
    starts = [start for _, start in texts]
    is_name = bool(starts) and score_of(starts[0]) >= least
    if not is_name and problem.cost.is_at_limit:
        return None, starts  # what was left out might have been the name
    (said, best), without = texts[0] if texts else ((), None), dict[str, Start]()
    if best is not None and is_name:
        said, best = best_in_company(problem, options, texts, least, kept)
        said, best, without = _needed(problem, options, said, best, least, kept)
    spare, asked = list[str](), list[str]()
    if best is not None and len(without) > 1:
        spare, asked = replaceable(problem, options, said, best, without, kept)
    named = Named(
        words=[word for word in said if word not in spare] if is_name else [],
        probability=0.0 if best is None else score_of(best),
        prompt_probability=score_of(found),
        pictures=options.n_validation,
        without={word: score_of(start) for word, start in without.items()},
        tried=[*said],
        shown=words,
        rows=problem.cost.rows - rows,
    )
    if is_name and len(said) > 1 and len(asked) < len(said):
        named["untested"] = [word for word in said if word not in asked]
    rest = [start for start in starts if best is None or start.name != best.name]
    return named, [*([] if best is None else [best]), *rest]


def _needed(
    problem: Problem, options: Options, words: Words, best: Start, least: float, kept: Kept
) -> tuple[Words, Start, dict[str, Start]]:
    """Return a text without the words that it does not need, and texts without each word that it does."""
    without = dict[str, Start]()
    for i, word in enumerate(words if len(words) > 1 else ()):
        if problem.cost.leaves_out(NAMING):
            break
        fewer = (*words[:i], *words[i + 1 :])
        text = " ".join(fewer)
        shorter = Start(text, soft_from_text(problem.pipeline, text, options.n_tokens), origin=best.origin)
        shorter = look_again(problem, shorter, options.n_validation, kept)
        if score_of(shorter) >= max(least, AS_WELL * score_of(best)):
            return _needed(problem, options, fewer, shorter, least, kept)
        without[word] = shorter
    return words, best, without
