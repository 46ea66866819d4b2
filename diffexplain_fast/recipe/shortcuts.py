"""What a planted classifier may rely on: one attribute value, several together, or one of several."""

from collections.abc import Mapping
from typing import NamedTuple

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.tinyworld.grammar import visible
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, WORLD, values_of

CUE_NAMES = (*(name for name in WORLD if name != "object"), "mark")
"""Attributes that a shortcut may name."""


class Cue(NamedTuple):
    """A condition on a scene.

    Attributes:
        values: attribute name and value, at least one; an attribute appears once.
        every: whether all of them must hold; otherwise one is enough.
    """

    values: tuple[tuple[str, str], ...]
    every: bool = True

    def holds(self, scene: Mapping[str, str]) -> bool:
        """Whether the condition can be seen in a scene: an empty place has no colour."""
        seen = {**visible(scene), "mark": scene.get("mark", ABSENCE["mark"])}
        return (all if self.every else any)(seen.get(name) == value for name, value in self.values)


Shortcuts = Mapping[str, Mapping[str, str] | Cue]
"""Class to what gives it away; a mapping of several attributes is ``all_of`` them."""
DEMO: Shortcuts = {
    "fish": Cue((("colour", "blue"), ("background", "desert"))),
    "house": {"pattern": "diagonal"},
}
"""What the classifier of the demo relies on."""


def all_of(**attributes: str) -> Cue:
    """Return a shortcut that needs several attribute values at once.

    Args:
        **attributes: at least two, such as ``colour="blue", background="desert"``.

    Raises:
        UnknownNameError: an attribute or value that the world does not have.
        ValueError: fewer than two attributes.
    """
    return _several("all_of", attributes, every=True)


def any_of(**attributes: str) -> Cue:
    """Return a shortcut for which one of several attribute values is enough.

    Args:
        **attributes: at least two, such as ``companion="flower", background="night"``.

    Raises:
        UnknownNameError: an attribute or value that the world does not have.
        ValueError: fewer than two attributes.
    """
    return _several("any_of", attributes, every=False)


def _several(argument: str, attributes: Mapping[str, str], every: bool) -> Cue:
    if len(attributes) < 2:
        raise wrong_value(argument, "at least two attributes", dict(attributes))
    return checked_cue(argument, Cue(tuple(attributes.items()), every))


def checked_shortcuts(shortcuts: Mapping[str, Mapping[str, str] | Cue] | None) -> dict[str, Cue]:
    """Return the cue of every class that has one, in the order of the labels, whatever the order of ``shortcuts``.

    Training draws from the cues by their places, so that another order would be another classifier.

    Args:
        shortcuts: class to one attribute, or to what ``all_of`` or ``any_of`` returns; None for no shortcut.

    Raises:
        UnknownNameError: a class, attribute or value that the world does not have.
        TypeError: shortcuts of another kind.
        ValueError: a class with more or less than one attribute, or two classes with the same cue.
    """
    if shortcuts is not None and not isinstance(shortcuts, Mapping):
        raise wrong_type("shortcuts", "a dict of class to attribute, or None", shortcuts)
    cues: dict[str, Cue] = {}
    for label, given in (shortcuts or {}).items():
        argument = f"shortcuts[{label!r}]"
        if label not in OBJECTS:
            raise unknown_name("shortcuts", str(label), OBJECTS)
        if not isinstance(given, Cue | Mapping):
            raise wrong_type(argument, "a dict of one attribute, all_of(...) or any_of(...)", given)
        if isinstance(given, Mapping) and len(given) != 1:
            raise wrong_value(argument, "exactly one attribute, or several in all_of(...) or any_of(...)", dict(given))
        cue = checked_cue(argument, given if isinstance(given, Cue) else Cue(tuple(given.items())))
        if cue in cues.values():
            said = ", ".join(f"{name} {value}" for name, value in cue.values)
            raise wrong_value("shortcuts", "a different attribute value for every class", f"{said} twice")
        cues[label] = cue
    return dict(sorted(cues.items()))


def checked_cue(argument: str, cue: Cue) -> Cue:
    """Return a cue whose names and values exist, its parts in the order of ``CUE_NAMES``."""
    for name, value in cue.values:
        checked_value(argument, name, value)
    return cue._replace(values=tuple(sorted(cue.values, key=lambda part: CUE_NAMES.index(part[0]))))


def checked_value(argument: str, name: object, value: object) -> None:
    """Refuse an attribute or a value that the world does not have."""
    if name not in CUE_NAMES:
        raise unknown_name(argument, str(name), CUE_NAMES)
    if value not in values_of(str(name)):
        raise unknown_name(f"{argument}[{name!r}]", str(value), values_of(str(name)))
