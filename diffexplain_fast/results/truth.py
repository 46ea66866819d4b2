"""The known truth about a classifier's features, in the form that is stored and shown with an explanation."""

from collections.abc import Mapping
from typing import TypedDict

from diffexplain_fast.errors import CorruptFileError, wrong_type
from diffexplain_fast.records import Number, as_json, read_as

DECISIVE = 1.0
"""Logits beyond which an effect plays a role: it multiplies the odds of the class by e at least, or divides them."""


class _Effect(TypedDict):
    attribute: str
    effect: Number


class _Attribute(_Effect, total=False):
    """The measured effect of an attribute such as "background:snow" on the class logit."""

    interval: tuple[Number, Number] | None
    role: str | None


class Truth(TypedDict, total=False):
    """The part of a truth that a report shows; a user's truth may have further entries."""

    attributes: list[_Attribute]


def role_of_effect(effect: float, interval: tuple[float, float] | None, *, own: bool = False) -> str:
    """Return the role of a measured effect on a class: of an attribute, of two together, or of what no word names.

    Args:
        effect: in logits.
        interval: its 95 % interval, None where that is not known; then the effect alone decides.
        own: whether the effect is that of the class's own object.

    Returns:
        "core" for the own object and "spurious" for anything else that raises the logit by more than one with 95 %
        confidence, "suppresses" for what lowers it by more than one, otherwise "none".
    """
    low, high = interval or (effect, effect)
    if min(low, effect) > DECISIVE:
        return "core" if own else "spurious"
    return "suppresses" if max(high, effect) < -DECISIVE else "none"


def checked_truth(truth: object, place: str) -> dict | None:
    """Return the truth of one class as JSON values.

    Args:
        truth: a dict with text as keys, or None. Its optional ``"attributes"`` are a list of dicts with
            ``"attribute"`` and ``"effect"``, and optionally ``"interval"`` (two numbers) and ``"role"``.
        place: name of the argument in the message.

    Raises:
        TypeError: not a dict, or a value in it that JSON does not have.
        ValueError: attributes of another structure; the message names the place.
    """
    if truth is not None and not isinstance(truth, Mapping):
        raise wrong_type(place, "a dict, or None", truth)
    plain: dict | None = as_json(truth, place)
    try:
        read_as(Truth | None, plain, place)
    except CorruptFileError as error:
        raise ValueError(str(error)) from None
    return plain


def checked_truths(truths: object) -> dict | None:
    """Return the truths of a classifier's classes as JSON values.

    Args:
        truths: a dict from labels to truths as in ``checked_truth``, or None.

    Raises:
        TypeError: not such a dict.
        ValueError: see ``checked_truth``.
    """
    if truths is None:
        return None
    if not isinstance(truths, dict) or not all(isinstance(label, str) for label in truths):
        raise wrong_type("truth", "a dict from labels, or None", truths)
    return {label: checked_truth(truth, f"truth, {label}") for label, truth in truths.items()}
