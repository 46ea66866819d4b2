"""What an explanation says, as sentences: the verdict, and the outcome on unseen draws."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from diffexplain_fast.number_texts import effect_text, output_text, share_text
from diffexplain_fast.report.steps import describe_steps
from diffexplain_fast.report.truth import TOGETHER, truth_rows
from diffexplain_fast.results.explanation import ActivationScore, Explanation, Word
from diffexplain_fast.results.named import AS_WELL, LEAST, Named
from diffexplain_fast.targets.outputs import INDEPENDENT, REGRESSION, SIGMOID

YES, SOME, NO, NUMBER = "yes", "some", "no", "number"
"""Levels of a verdict: most pictures convince, some do, none do; or the target has no rate."""
_ARTICLE = "a"
_NAMES = 0.7
"""Cosine similarity of a soft token and a word below which the word is only the nearest one and does not name it."""


class Verdict(NamedTuple):
    """The verdict on a target.

    Attributes:
        level: one of "yes", "some", "no" and "number".
        headline: the answer in a sentence.
        more: further sentences: the comparison with the class name, and shortcuts among the words.
        short: the rate in a few words, "" without a rate.
        shortcuts: words of the prompt or of its name that the truth calls spurious, alone or two of them together.
    """

    level: str
    headline: str
    more: list[str]
    short: str
    shortcuts: list[str]


def verdict_of(explanation: Explanation) -> Verdict:
    """Return the verdict on the target of an explanation.

    "Yes" means that the interval of the rate on unseen draws lies above one half.

    Args:
        explanation: the explanation.
    """
    score, shortcuts = explanation.activation.get("held_out"), _shortcuts(explanation)
    if score is None or score.rate is None:
        headline = describe_outcome(explanation) or "The result has no scores on unseen start noise."
        return Verdict(NUMBER, headline, _describe_shortcuts(shortcuts), "", shortcuts)
    hits, low = round(score.rate * score.n), (score.interval or (score.rate, score.rate))[0]
    level = YES if low >= 0.5 else SOME if hits else NO
    name, (words, near) = explanation.label or explanation.target, _named_and_near(explanation)
    shown = f"“{' '.join(words)}”" if words else "the explanation"
    verb = ("see", f"“{name}” in") if has_independent_classes(explanation) else ("answer", f"“{name}” to")
    headline = _headline(level, hits, score, verb, shown, named=bool(words))
    compared = _compare(score, explanation.activation.get("class_name"))
    if score.mean_score is not None:  # of a sum the class that counts as a hit is a part only
        mean = effect_text(score.mean_score, signs="")
        compared.append(f"The mean of {explanation.target} is {mean} over {score.n} unseen draws.")
    more = [*compared, *_describe_name(explanation), *_describe_shortcuts(shortcuts)]
    if near:
        what = "A part of the prompt has no name" if words else "No words name the prompt"
        more.append(f"{what}: look at the pictures. The nearest words are {', '.join(f'“{word}”' for word in near)}.")
    return Verdict(level, headline, more, f"{hits} of {score.n}", shortcuts)


def _headline(level: str, hits: int, score: ActivationScore, verb: tuple[str, str], shown: str, named: bool) -> str:
    """Return the answer in a sentence, whose words fit its count.

    Args:
        level: of the verdict.
        hits: pictures that convince.
        score: of all pictures.
        verb: what the classifier does, such as "answer" and "“fish” to".
        shown: what the pictures are of.
        named: whether that is words, of which there are more pictures than these.
    """
    answers, pictures = f"The classifier {verb[0]}s {verb[1]}", f"pictures of {shown}"
    counted = f"{_count(hits, score)} from unseen start noise"
    if level == NO and score.n == 1:
        return f"No convincing picture was found: the classifier does not {' '.join(verb)} the only picture of {shown}."
    if level == NO:
        every = f"{score.n} {pictures}" if named else f"the {score.n} {pictures}"
        return f"No convincing pictures were found: {_first_lower(answers)} none of {every}."
    if level == YES:
        return f"{answers} {pictures if named else 'the ' + pictures}: {counted}."
    of = pictures if named else f"of the {pictures}"
    if 2 * hits <= score.n:
        return f"{answers} only some {of}: {counted}."
    much = f"the only picture of {shown}" if score.n == 1 else f"{'all' if hits == score.n else 'most'} {of}"
    return f"{answers} {much}: {counted}, too few to be sure of more than half of all such pictures."


def summarise_explanation(explanation: Explanation) -> str:
    """Return the verdict, the words, the steps and the time of an explanation, in a few lines."""
    verdict, settings = verdict_of(explanation), explanation.settings
    words = " | ".join(", ".join(f"{w.word} {w.similarity:.2f}" for w in token[:3]) for token in explanation.words)
    seconds = settings.get("seconds", {}).get("all") if isinstance(settings.get("seconds"), dict) else None
    took = "" if seconds is None else f" It took {seconds:.0f} s."
    pictures = f"{len(explanation.images)} picture{'' if len(explanation.images) == 1 else 's'}"
    lines = [
        f"Explanation of {explanation.target}, classifier {settings.get('classifier', 'unknown')}",
        " ".join([verdict.headline, *verdict.more]),
        *([f"Nearest words of each soft token, with cosine similarity: {words}"] if words else []),
        f"{describe_steps(explanation)}{took}",
        f"{pictures}; report(path) writes a page, save(folder) keeps everything",
    ]
    return "\n  ".join(lines)


def _describe_name(explanation: Explanation) -> list[str]:
    """Return what was measured of the words that name a prompt, or of those that came nearest to a name."""
    named = explanation.named
    if named is None:
        return []
    of_prompt = f"of the prompt that was found: {named['prompt_probability']:.2f}"
    convince = f"mean probability {named['probability']:.2f} over {named['pictures']} pictures, {of_prompt}"
    if named["words"]:
        name, text = " ".join(named["words"]), " ".join(named["tried"])
        if name == text:
            said = f"“{name}” names what was found: pictures of only these words convince ({convince})."
            return [said, *_describe_need(named)]
        helping = _quoted([word for word in named["tried"] if word not in named["words"]])
        return [
            f"“{name}” names what was found: pictures of only “{text}” convince ({convince}).",
            f"{helping} only helps to draw it: pictures without it, or with others in its place, convince too.",
            *_describe_untested(named),
        ]
    text = f"“{' '.join(named['tried'])}”"
    if _convince_too_rarely(named):
        well = f"did {'as' if named['probability'] >= named['prompt_probability'] else 'nearly as'} well as the prompt"
        which = "both are" if named["prompt_probability"] < LEAST else "that is"
        bar = f"{which} below the {LEAST:.2f} that a name needs ({convince})"
        return [f"No words name what was found: look at the pictures. {text} {well}, but {bar}."]
    tried = f" The best that were tried are {text} ({convince})." if named["tried"] else ""
    return [f"No words were found that convince as the prompt does: look at the pictures.{tried}"]


def _convince_too_rarely(named: Named) -> bool:
    """Whether the words that were tried do as well as the prompt, and are no name because they convince too rarely."""
    return bool(named["tried"]) and AS_WELL * named["prompt_probability"] <= named["probability"] < LEAST


def _describe_need(named: Named) -> list[str]:
    """Return which words of a name are needed, as far as that was measured."""
    without, least = named["without"], AS_WELL * named["probability"]
    measured = " and ".join(f"{value:.2f} without “{word}”" for word, value in without.items())
    untested, spare = _describe_untested(named), [word for word, value in without.items() if value >= least]
    if untested or not without:
        return [*([f"Measured: {measured}."] if without else []), *untested]
    if not spare:
        return [f"Every word is needed: {measured}."]
    either = len(spare) == len(without) == 2
    return [f"{'Either word alone does nearly as well' if either else 'Not every word is needed'}: {measured}."]


def _describe_untested(named: Named) -> list[str]:
    """Return what of a name the budget left untested; files of earlier versions do not say all of it."""
    alone = [word for word in named["tried"] if word not in named["without"]] if len(named["tried"]) > 1 else []
    if alone:
        needed = "is needed" if len(alone) == 1 else "are needed"
        return [f"The budget ended before it was tested whether {_quoted(alone)} {needed}."]
    others = named.get("untested", [])
    return [f"The budget ended before others were tried in the place of {_quoted(others)}."] if others else []


def _quoted(words: Sequence[str]) -> str:
    return " and ".join(f"“{word}”" for word in words)


def nearest_words(explanation: Explanation) -> str:
    """Return the words of a prompt's name in one line, or where nobody looked for one the nearest word of each token.

    Repetitions of neighbours and articles are left out.

    A prompt shorter than its tokens is filled up with "a"; these words say nothing, unless there is no other.
    """
    if explanation.named is not None:
        rarely = _convince_too_rarely(explanation.named)
        none = "no words convince often enough to name it" if rarely else "no words name it"
        return " ".join(explanation.named["words"]) or none
    return " ".join(word for word, _ in groupby(word.word for word in _telling(explanation)))


def _telling(explanation: Explanation) -> list[Word]:
    first = [token[0] for token in explanation.words if token]
    return [word for word in first if word.word.lower() != _ARTICLE] or first


def _named_and_near(explanation: Explanation) -> tuple[list[str], list[str]]:
    """Return the words that name soft tokens, and the nearest words of those that no word names."""
    by = explanation.settings.get("found", {}).get("by")
    if explanation.named is not None and by != "proposals":
        return [], []  # the prompt is no words: what was measured of words is a sentence of its own
    telling = _telling(explanation)
    named = [word.word for word in telling if word.similarity >= _NAMES]
    near = [word.word for word in telling if word.similarity < _NAMES]
    return [word for word, _ in groupby(named)], [word for word, _ in groupby(near)]


def _shortcuts(explanation: Explanation) -> list[str]:
    """Return the words that name an explanation and that the truth calls spurious, alone or two of them together."""
    known = [row for row in truth_rows(explanation.truth or {})[0] if row.role == "spurious"]
    named = explanation.named["words"] if explanation.named is not None else _named_and_near(explanation)[0]
    said = {word.lower() for word in named}
    found = [row for row in known if said.issuperset(word.lower() for word in row.words)]
    return list(dict.fromkeys(f"{row.value} together" if row.kind == TOGETHER else row.value for row in found))


def _describe_shortcuts(words: Sequence[str]) -> list[str]:
    if not words:
        return []
    are = "is a shortcut" if len(words) == 1 else "are shortcuts"
    return [f"According to the measured truth, {_quoted(words)} {are}."]


def _compare(score: ActivationScore, baseline: ActivationScore | None) -> list[str]:
    if baseline is None or baseline.rate is None:
        return []
    counted = f"With only the class name as the prompt: {_count(round(baseline.rate * baseline.n), baseline)}"
    if score.interval is None or baseline.interval is None:
        return [f"{counted}."]
    if score.interval[0] > baseline.interval[1]:
        return [f"{counted}, clearly fewer."]
    if score.interval[1] < baseline.interval[0]:
        return [f"{counted}, clearly more: the name convinces the classifier better than this explanation."]
    return [f"{counted}, which is no clear difference."]


def _count(hits: int, score: ActivationScore) -> str:
    return f"{hits} of {score.n} ({share_text(hits / score.n)})"


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def describe_outcome(explanation: Explanation) -> str:
    """Return a sentence: how often the classifier agrees on unseen draws, and how often for the class name.

    Args:
        explanation: the explanation.
    """
    score, baseline = explanation.activation.get("held_out"), explanation.activation.get("class_name")
    if score is None:
        return ""
    if score.rate is None:
        return _describe_number(explanation, score, baseline)
    hits = round(score.rate * score.n)
    pictures, name = f"{hits} of {score.n} pictures from unseen draws", explanation.label
    sentence = f"{pictures} are classified as {name}"
    if has_independent_classes(explanation):
        sentence = f"{pictures} have a probability above 0.5 of being {name}"
    if baseline is None or baseline.rate is None:
        return f"{sentence}."
    return f"{sentence}; with only the class name as the prompt, {round(baseline.rate * baseline.n)} of {baseline.n}."


def _describe_number(explanation: Explanation, score: ActivationScore, baseline: ActivationScore | None) -> str:
    if not is_number(explanation):
        return f"Mean target score {effect_text(score.mean_target, signs='')} over {score.n} unseen draws."
    within = "" if score.interval is None else f" [{output_text(score.interval[0])}, {output_text(score.interval[1])}]"
    mean = f"{output_text(score.mean_logit)}{within} over {score.n} unseen draws"
    sentence = f"The mean {explanation.label or 'output'} is {mean}"
    usual = explanation.settings.get("to_be_beyond", math.nan)
    if baseline is None or explanation.reached is None or usual is None:
        name = "whose name the pipeline cannot spell" if explanation.label else "without a name"
        return f"{sentence}; an output {name} has no pictures of its name to compare with."
    side = "below" if explanation.settings.get("direction") == "fall" else "above"
    beyond = f"{usual:.4g}"
    reached = f"{'reached' if explanation.reached else 'not reached'}, which takes a mean {side} {beyond}"
    name = f"only the name as the prompt gives {output_text(baseline.mean_logit)}"
    return f"{sentence}; {name}. The target is {reached}, beyond 95 % of the pictures of the name."


def is_number(explanation: Explanation) -> bool:
    """Return whether the target is one output of a regression, whose scores are in its units."""
    return explanation.output == REGRESSION and "direction" in explanation.settings


def has_independent_classes(explanation: Explanation) -> bool:
    """Return whether the classes are independent, so that the probability of a class decides."""
    return explanation.output in (SIGMOID, INDEPENDENT)
