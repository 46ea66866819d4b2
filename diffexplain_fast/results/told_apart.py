"""Whether an audit is of the classifier whose answers another result measures."""

from collections.abc import Mapping

from diffexplain_fast.records import Json

_FUNCTION = "callable "
"""Begin of the fingerprint of a function, which says no more than its name."""
_SHORT = 8
"""Digits of a fingerprint that a message has."""


def _weights(fingerprint: Json) -> str:
    """Return a fingerprint of weights; "" for none, and for that of a function."""
    found = str(fingerprint or "")
    return "" if found.startswith(_FUNCTION) else found


def is_of_others(settings: Mapping[str, Json], name: str, fingerprint: str) -> bool:
    """Return whether a result is known to be of another classifier, by the rule of ``audit_of_another``.

    Args:
        settings: of the result.
        name: of the classifier.
        fingerprint: of the classifier.
    """
    first, second = _weights(settings.get("classifier_fingerprint")), _weights(fingerprint)
    if first and second:
        return first != second
    other = settings.get("classifier")
    return bool(other and name) and other != name


def audit_of_another(settings: Mapping[str, Json], audit: object) -> tuple[str, str] | None:
    """Return which audit would be of the same classifier, and what it is instead; None where nothing tells them apart.

    Weights tell classifiers apart, so that the same ones in another precision are others. Where one of the two results
    does not know them, because it is of an earlier release or of a function, the names do, where both have one.

    Args:
        settings: of the attribution that is compared with the audit.
        audit: an audit, or a difference of two, which is of no single classifier.

    Returns:
        Such as "an audit of resnet50" and "one of resnet18".
    """
    name = str(settings.get("classifier") or "")
    other, theirs = str(getattr(audit, "classifier", "")), getattr(audit, "settings", {})
    wanted = f"an audit of {name or 'the same classifier'}"
    if "difference" in theirs:
        return wanted, f"the difference {other}"
    first, second = (_weights(one.get("classifier_fingerprint")) for one in (settings, theirs))
    if not is_of_others(settings, other, str(theirs.get("classifier_fingerprint") or "")):
        return None
    if name == other:
        return f"{wanted} with the weights {first[:_SHORT]}", f"one with the weights {second[:_SHORT]}"
    return wanted, f"one of {other}"
