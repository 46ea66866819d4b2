"""Names of classes: read from the usual containers, checked once, looked up by label or index."""

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import SupportsIndex, TypeGuard

from diffexplain_fast.errors import describe, unknown_name, wrong_type, wrong_value
from diffexplain_fast.targets import whole_number
from diffexplain_fast.targets.classes import told_apart, with_index

_KIND = "a list of strings"


def checked_labels(labels: object) -> tuple[str, ...]:
    """Return labels as a tuple.

    Args:
        labels: strings in the order of the classes (a list, an array, values of a dict), or a dict from every class
            index to its label, as transformers' ``id2label``.

    Raises:
        TypeError: labels of another kind.
        ValueError: no labels, a dict that leaves a class out, or text that cannot be written to a file.
    """
    if isinstance(labels, Mapping):
        labels = _in_order(labels)
    elif hasattr(labels, "tolist"):
        labels = labels.tolist()
    if isinstance(labels, str | bytes | Set) or not isinstance(labels, Iterable):
        raise wrong_type("labels", _KIND, labels)
    listed = list(labels)
    for label in listed:
        if not isinstance(label, str):
            raise wrong_type("labels", _KIND, label)
    if not listed:
        raise wrong_value("labels", "one for each class, or None", "an empty list")
    check_text("labels", listed)
    return tuple(map(str, listed))


def check_text(argument: str, texts: Iterable[str]) -> None:
    """Raise a ValueError if a text cannot be written to a file, because it came from bytes that are not text.

    Args:
        argument: name of the texts in the message.
        texts: texts to check.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise wrong_value(argument, "text that UTF-8 can encode", ascii(text)) from error


def find_label(labels: Sequence[str] | None, name: str, label: object, classes: int | None = None) -> int:
    """Return the index of a class from its label or index.

    Args:
        labels: names of the classes, None if they have none.
        name: name of the classifier in the message.
        label: the label or index; of a label that several classes share the text "crane (134)", with the index.
        classes: number of classes if there are no labels, None if it is not known.

    Raises:
        TypeError: neither a label nor an index.
        UnknownNameError: no such label; the message names the five nearest.
        ValueError: an index out of range, a label that several classes share, or a label if classes have none.
    """
    if not isinstance(label, str):
        index = whole_number("label", label, "a label or a class index")
        count = classes if labels is None else len(labels)
        if index < 0 or (count is not None and index >= count):
            wanted = "an index from 0" if count is None else f"an index from 0 to {count - 1}"
            raise wrong_value("label", wanted, index)
        return index
    if labels is None:
        raise wrong_value("label", f"a class index, because {name} has no labels", repr(label))
    indices = [index for index, known in enumerate(labels) if known == label]
    if not indices:
        named = zip(labels, told_apart(labels), strict=True)
        indices = [index for index, (known, name) in enumerate(named) if label in (with_index(known, index), name)]
    if not indices:
        raise unknown_name("label", label, told_apart(labels))
    if len(indices) > 1:
        texts = told_apart(labels)
        wanted = f'an index or "{min((texts[index] for index in indices), key=len)}"'
        raise wrong_value("label", f"{wanted}, because classes {indices} share this label", repr(label))
    return indices[0]


def labels_of_config(id2label: object, count: int) -> tuple[str, ...] | None:
    """Return the class names of a transformers configuration in order, or None if its classes have no names.

    Entry i names logit i, as in transformers; a class without an entry gets the name that transformers gives it.

    Args:
        id2label: a dict from class indices, as numbers or as text, or a list.
        count: number of classes of the model.

    Raises:
        ValueError: keys that are not class indices.
    """
    entries = dict(enumerate(id2label)) if isinstance(id2label, list | tuple) else id2label
    if not isinstance(entries, Mapping):
        raise wrong_value("classifier", "id2label from class indices to names", type(id2label).__name__)
    names = {_index_of(key, "classifier's id2label"): name for key, name in entries.items() if name is not None}
    usual = tuple(f"LABEL_{index}" for index in range(count))
    labels = tuple(str(names.get(index, usual[index])) for index in range(count))
    return None if labels == usual else labels


def _in_order(labels: Mapping[object, object]) -> list[object]:
    if not labels or not all(_is_index(key) for key in labels):
        raise wrong_type("labels", _KIND, labels)
    named = {_index_of(key, "labels"): label for key, label in labels.items()}
    if sorted(named) != list(range(len(labels))):
        wanted = f"a name for each class from 0 to {len(labels) - 1}"
        raise wrong_value("labels", wanted, f"the indices {sorted(named)[:10]}")
    return [label for _, label in sorted(named.items(), key=operator.itemgetter(0))]


def _is_index(key: object) -> TypeGuard[SupportsIndex | str]:
    return not isinstance(key, bool) and (hasattr(key, "__index__") or (isinstance(key, str) and key.isdecimal()))


def _index_of(key: object, argument: str) -> int:
    if not _is_index(key):
        raise ValueError(describe(argument, "class indices as keys", repr(key)))
    return int(key) if isinstance(key, str) else operator.index(key)
