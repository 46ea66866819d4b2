"""Targets as text: "logit:boat + 0.5*neuron:layer4:17", on the command line and in Python."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.targets.base import Bindable, Response, Target
from diffexplain_fast.targets.classes import ClassLogit, ClassProbability, told_apart
from diffexplain_fast.targets.neurons import read_neuron

_TERMS = re.compile(r"\s+([+-])\s+")
_FACTOR = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*(.+)", re.DOTALL)
_SIGNED = re.compile(r"-\s*((?:logit|probability|neuron):.+)", re.DOTALL)
_LONGEST_NUMBER = 18
WANTED = "a class index, a label or a target"
"""What a target has to be, in messages."""
NOTHING = "nothing: the target is empty"
"""What an empty text is called in messages."""


def parse_target(text: str, labels: Sequence[str] | None) -> int | str | Target:
    """Return the target that a text names: a label, the number of a class, a neuron, or a sum of such terms.

    An exact label always wins, whatever is in it, and so does the text that tells classes of one label apart, such as
    "crane (134)". A sum has blanks around every "+" and "-"; a term may have a factor, and names its kind, such as
    "logit:boat", "probability:boat", "neuron:layer4:17", or "neuron:layer4:17,3,2" for that unit at row 3, column 2. A
    text without a kind, a factor or a sign is returned as it is, or as a number.

    Args:
        text: text of the user.
        labels: names of the classes in their order, None if they have none.

    Raises:
        ValueError: an empty text, or a term of a sum that is none of these; the message names the term.
    """
    known = frozenset([*(labels or ()), *told_apart(labels or ())])
    if text in known:
        return text
    if not text.strip():
        raise wrong_value("target", WANTED, NOTHING)
    if not is_formula(text):
        return _class_of(text, known)
    first, *rest = _TERMS.split(text.strip())
    total = _term(first, known)
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        total = total + _term(term, known) if sign == "+" else total - _term(term, known)
    return total


def _is_term(text: str) -> bool:
    return bool(_FACTOR.fullmatch(text) or _SIGNED.fullmatch(text)) or text.partition(":")[0] in _KINDS


def _term(text: str, known: Collection[str]) -> Target:
    if text in known:
        return ClassProbability(text)
    if found := _FACTOR.fullmatch(text):
        return float(found[1]) * _term(found[2], known)
    if found := _SIGNED.fullmatch(text):
        return -_term(found[1], known)
    kind, _, name = text.partition(":")
    if kind in _KINDS and name:
        return _KINDS[kind](name, known)
    return ClassProbability(_class_of(text, known))


def _class_of(text: str, known: Collection[str]) -> int | str:
    """Return a label, or the number of a class where no label is spelled like that number."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
    return int(text) if is_number and text not in known else text


def _neuron(text: str, known: Collection[str]) -> Target:
    if (neuron := read_neuron(text)) is None:
        wanted = "a neuron as neuron:LAYER:UNIT or neuron:LAYER:UNIT,ROW,COLUMN, such as neuron:layer4:17"
        raise wrong_value("target", wanted, repr(f"neuron:{text}"))
    return neuron


_KINDS: dict[str, Callable[[str, Collection[str]], Target]] = {
    "logit": lambda text, known: ClassLogit(_class_of(text, known)),
    "probability": lambda text, known: ClassProbability(_class_of(text, known)),
    "neuron": _neuron,
}


@dataclass(frozen=True)
class Written(Target):
    """A target as text, which the labels of a classifier decide; see ``parse_target``.

    Args:
        text: with a kind, a factor or a sum in it.
    """

    text: str

    def bind(self, classifier: Bindable) -> Target:
        """Return the target that the text means: the class of that label, or else the bound formula."""
        found = parse_target(self.text, classifier.labels)
        target = found if isinstance(found, Target) else ClassProbability(found, bare=True)
        return target.bind(classifier)

    def __call__(self, response: Response) -> Tensor:
        raise wrong_value("target", "one that is bound to a classifier, whose labels decide", repr(self.text))

    def describe(self) -> str:
        return self.text


def is_formula(text: str) -> bool:
    """Return whether a text that names no class as it is has a kind, a factor or a sum in it."""
    first, *rest = _TERMS.split(text.strip())
    return bool(rest) or _is_term(first)
