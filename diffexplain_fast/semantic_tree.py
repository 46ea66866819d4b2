"""Nodes of a tree of names, read from what a caller or a file gives, and written again."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.records import Json, unique_keys

_DEEPEST = 50
_OBJECT = re.compile(r'\{\s*["}]')
"""The beginning of a JSON object: a brace in prose has something else behind it."""
_LIST = re.compile(r'\[\s*(?=\{\s*["}])')
_FREE = "word"
"""What an audit calls the category of free words."""


@dataclass(frozen=True)
class Node:
    """A name and the nodes below it."""

    name: str
    children: tuple["Node", ...] = ()


def read_nodes(value: object, path: tuple[str, ...]) -> tuple[Node, ...]:
    """Return the nodes below a path.

    Args:
        value: a dict from names to what is below them, a list or set of names and such dicts, or a name.
        path: names of the nodes above.

    Raises:
        TypeError: a value of another kind; the message says where.
        ValueError: a cycle, a name twice or empty, or a node that is to have children and has none.
    """
    place = "taxonomy" + (f", {' > '.join(path)}" if path else "")
    if len(path) > _DEEPEST:
        raise wrong_value(place, f"at most {_DEEPEST} levels", "more, or a tree that contains itself")
    pairs = list(_pairs(value, place))
    if not pairs:
        raise wrong_value(place, "at least one name below it", "none")
    found: dict[str, Node] = {}
    for given, below in pairs:
        name = given.strip()
        if not name:
            raise wrong_value(place, "names that are not empty", repr(given))
        if below is not None and name.casefold() in (known.casefold() for known in path):
            raise wrong_value(place, "no node below a node of its own name", f"the cycle {' > '.join((*path, name))}")
        if name.casefold() in found:
            raise wrong_value(place, "every name once", f"{name!r} twice")
        found[name.casefold()] = Node(name, () if below is None else read_nodes(below, (*path, name)))
    return tuple(found.values())


def _pairs(value: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield each name and what is below it, None for a leaf."""
    if isinstance(value, str):
        yield value, None
    elif isinstance(value, Mapping):
        for name, below in value.items():
            if not isinstance(name, str):
                raise wrong_type(place, "text as names", name)
            yield name, below
    elif isinstance(value, list | tuple | set | frozenset):
        for part in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
            if not isinstance(part, str | Mapping):
                raise wrong_type(place, "names, or dicts from names to what is below them", part)
            yield from _pairs(part, place)
    else:
        raise wrong_type(place, "a dict, a list of names, or None for a leaf", value)


def leaves(nodes: tuple[Node, ...], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every leaf, in their order."""
    for node in nodes:
        if node.children:
            yield from leaves(node.children, (*path, node.name))
        else:
            yield (*path, node.name)


def short_name(path: tuple[str, ...]) -> str:
    """Return the first and the last name of a path."""
    return f"{path[0]}:{path[-1]}" if len(path) > 1 else path[0]


def written(nodes: tuple[Node, ...]) -> Json:
    """Return nodes as a list of names where all of them are leaves, else as a dict in which a leaf has None."""
    if not any(node.children for node in nodes):
        return [node.name for node in nodes]
    return {node.name: written(node.children) if node.children else None for node in nodes}


def tree_of(found: Sequence[str], others: Sequence[str]) -> list[str | dict[str, list[str]]]:
    """Return the tree of concepts, named as an audit names them: "background:sea", "word:striped" for a free word.

    Names that differ in capitals only count once. A free word is a leaf of its own; one that is called like a category
    lies below "word", because no two nodes beside each other have the same name.

    Args:
        found: names of the concepts that are to be in it.
        others: names of values that are to be in it where their category is.
    """
    categories = {name.partition(":")[0].casefold() for name in found} - {_FREE}
    free = {word.casefold() for name in found for category, _, word in [name.partition(":")] if category == _FREE}
    taken = categories | {_FREE for word in free if word in categories}
    nodes: dict[tuple[str, bool], tuple[str, dict[str, str]]] = {}
    for name in [*found, *others]:
        category, _, word = name.partition(":")
        if category == _FREE and name in found and word.casefold() not in taken:
            nodes.setdefault((word.casefold(), False), (word, {}))
        elif category.casefold() in categories or name in found:
            _, below = nodes.setdefault((category.casefold(), True), (category, {}))
            below.setdefault(word.casefold(), word)
    return [{name: [*below.values()]} if below else name for name, below in nodes.values()]


def object_in(answer: str) -> Json:
    """Return the JSON object in the answer of a model, which may stand in prose with braces of its own.

    Objects of plain values do not count beside one that holds dicts or lists; of such alone, the longest counts. A list
    of objects, as the paper prints a taxonomy, is one.

    Args:
        answer: any text.

    Raises:
        ValueError: no JSON object, one that breaks off, whose parts alone would say something else, one with a key
            twice, or several.
    """
    found, decoder, place = list[tuple[int, dict[str, Json]]](), json.JSONDecoder(object_pairs_hook=unique_keys), 0
    listed, first = _LIST.search(answer), _OBJECT.search(answer)
    if listed and first and listed.end() == first.start():  # else the list is a part of an object
        values, ends = decoder.raw_decode(answer, listed.start())
        if all(isinstance(value, dict) for value in values) and not _OBJECT.search(answer, ends):
            return values
    while begins := _OBJECT.search(answer, place):
        value, place = decoder.raw_decode(answer, begins.start())
        found.append((place - begins.start(), value))
    if not found:
        raise ValueError("no JSON object")
    deep = [value for _, value in found if any(isinstance(part, dict | list) for part in value.values())]
    if len(deep) > 1:
        raise ValueError(f"{len(deep)} JSON objects in place of one")
    return deep[0] if deep else max(found, key=lambda one: one[0])[1]
