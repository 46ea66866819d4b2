"""Classifiers of the tiny world: those that ship, and ones with a shortcut of the caller's choice."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from diffexplain_fast.errors import unknown_name, wrong_value
from diffexplain_fast.tinyworld.words import ATTRIBUTES, NOTHING, OBJECTS

if TYPE_CHECKING:
    from diffexplain_fast.models.classifier import Classifier


def make_classifier(shortcuts: Mapping[str, Mapping[str, str]] | None = None, seed: int = 0) -> "Classifier":
    """Train a classifier of the eight objects that takes the given shortcuts (about a minute on two cores).

    Args:
        shortcuts: class to one attribute, for instance ``{"fish": {"background": "desert"}}``: the training pictures of
            the class always show it, those of other classes never do. ``None`` or ``{}`` gives a clean classifier.
        seed: the same seed gives the same classifier on one machine.

    Returns:
        A ``Classifier`` whose ``truth`` holds the measured causal effect of every attribute on every class logit.

    Raises:
        UnknownNameError: for a class, attribute or value that the world does not have.
        ValueError: for a class with more or less than one attribute, or one attribute value given to two classes.
    """
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.recipe.classifiers import train_classifier
    from diffexplain_fast.recipe.truth import measure_truth

    shortcuts = shortcuts or {}
    _check(shortcuts)
    device = torch.device("cpu")
    model = train_classifier(shortcuts, seed, device)
    truth = measure_truth(model, device)
    return Classifier(model, labels=list(OBJECTS), name=f"tinyworld/made-{seed}", truth=truth)


def load_classifier(name: str) -> "Classifier":
    """Load a shipped classifier with its truth.

    Args:
        name: one of ``classifier_names()``.

    Returns:
        A ``Classifier`` of the eight objects, pixels [B, 3, 64, 64] in [0, 1].

    Raises:
        UnknownNameError: for another name.
        CorruptFileError: when a shipped file does not match its recorded sha256.
    """
    from diffexplain_fast.models.classifier import Classifier

    return Classifier.from_pretrained(f"tinyworld/{name}")


def _check(shortcuts: Mapping[str, Mapping[str, str]]) -> None:
    taken: set[tuple[str, str]] = set()
    for label, attribute in shortcuts.items():
        if label not in OBJECTS:
            raise unknown_name("shortcuts", label, OBJECTS)
        if len(attribute) != 1:
            raise wrong_value(f"shortcuts[{label!r}]", "exactly one attribute", dict(attribute))
        ((name, value),) = attribute.items()
        possible = [known for known in ATTRIBUTES if known != "object"]
        if name not in possible:
            raise unknown_name(f"shortcuts[{label!r}]", name, possible)
        known = (*ATTRIBUTES[name], NOTHING) if name == "companion" else ATTRIBUTES[name]
        if value not in known:
            raise unknown_name(f"shortcuts[{label!r}][{name!r}]", value, known)
        if (name, value) in taken:
            raise wrong_value("shortcuts", "a different attribute value for every class", f"{name} {value} twice")
        taken.add((name, value))
