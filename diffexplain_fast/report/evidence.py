"""The pictures of an explanation as evidence: what the classifier said of each, and where it was not convinced."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from diffexplain_fast.number_texts import isolated, output_text, share_text
from diffexplain_fast.report.page import SECTION_BYTES, Inlined, inline_pictures
from diffexplain_fast.report.sentences import is_number
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.results.pictures import Answer, Picture
from diffexplain_fast.targets import shown_target


class Card(NamedTuple):
    """A picture, what the classifier said of it ("" if unknown), and whether it is recognised (None if unknown)."""

    source: str
    width: int
    height: int
    alt: str
    said: str
    hit: bool | None


class Evidence(NamedTuple):
    """The pictures of one explanation.

    Attributes:
        drawn: the first pictures of the explanation.
        named: pictures of only the class name, from the same start noise.
        failures: further pictures of the explanation that are not recognised.
        failed: a sentence about the failures, "" for a target without a rate.
        answered: True if the result has the classifier's answers.
        percent: the meaning of the percentages below the pictures.
    """

    drawn: list[Card]
    named: list[Card]
    failures: list[Card]
    failed: str
    answered: bool
    percent: str


def evidence_of(explanation: Explanation, limit: int = SECTION_BYTES) -> Evidence:
    """Return the pictures of an explanation, inside the page, with the classifier's answers if the result has them.

    Args:
        explanation: the explanation.
        limit: bytes that its pictures may have in the file.
    """
    shown, score = explanation.pictures, explanation.activation.get("held_out")
    named, failures = shown.get("class_name", []), shown.get("failures", [])
    images = [*explanation.images, *(p.image for group in shown.values() for p in group)]
    unique = list({id(image): image for image in images}.values())
    sources = dict(zip(map(id, unique), inline_pictures(unique, limit), strict=True))
    drawn, failed = _drawn_cards(explanation, sources), ""
    if score is not None and score.rate is not None:
        missed = score.n - round(score.rate * score.n)
        failed = _describe_failures(missed, score.n, sum(card.hit is False for card in drawn), len(failures))
    number = is_number(explanation) or explanation.label is None
    return Evidence(
        drawn=drawn,
        named=_cards(explanation, named, sources, f"drawn from only the name of {explanation.label or 'the class'}"),
        failures=_cards(explanation, failures, sources, f"that is not recognised, {_drawn_by(explanation)}"),
        failed=failed,
        answered=bool(shown),
        percent="" if number else ", and the probability of the class in question",
    )


def _describe_failures(missed: int, n: int, above: int, here: int) -> str:
    counted = f"Failures: {missed} of {n} pictures from unseen start noise are not recognised"
    if here:
        return f"{counted}; {above} above, {here} here"
    return f"{counted}{', all of them above' if above and above == missed else ''}."


def _drawn_cards(explanation: Explanation, sources: Mapping[int, Inlined]) -> list[Card]:
    if held_out := explanation.pictures.get("held_out"):
        return _cards(explanation, held_out, sources, _drawn_by(explanation))
    alts = [f"Picture {i} {_drawn_by(explanation)}" for i in range(1, len(explanation.images) + 1)]
    return [Card(*sources[id(image)], alt, "", None) for image, alt in zip(explanation.images, alts, strict=True)]


def _drawn_by(explanation: Explanation) -> str:
    return f"drawn by the explanation of {shown_target(explanation.target, explanation.label)}"


def _cards(
    explanation: Explanation, pictures: Sequence[Picture], sources: Mapping[int, Inlined], kind: str
) -> list[Card]:
    return [
        Card(
            *sources[id(picture.image)],
            f"Picture {i} {kind}",
            _describe_answer(explanation, picture.answer),
            picture.answer.hit,
        )
        for i, picture in enumerate(pictures, start=1)
    ]


def _describe_answer(explanation: Explanation, answer: Answer) -> str:
    if answer.probability is None:
        return output_text(answer.logit)
    name, share = isolated(explanation.label or "the class"), share_text(answer.probability)
    share = share.replace(" ", "\N{NO-BREAK SPACE}")
    if answer.hit or answer.label is None:
        return f"{name} {share}"
    return f"{isolated(answer.label)} ({name} {share})"
