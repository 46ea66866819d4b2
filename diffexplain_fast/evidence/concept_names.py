"""Names of concepts as a user gives them: checked, each once."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from diffexplain_fast.errors import UnknownNameError, unknown_name, wrong_type, wrong_value
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import Json

_NAME = re.compile(r"[^\s:,{}][^:,{}]*")


def spoken(label: str) -> str:
    """Return the first of a label's synonyms, as a caption says it: "great_white_shark, Carcharodon" is spoken as
    "great white shark"."""
    return label.partition(",")[0].strip().replace("_", " ")


def folded(name: str) -> str:
    """Return a name without what is no difference in speech: capitals, and underscores or hyphens for spaces."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def label_names(label: str) -> tuple[str, ...]:
    """Return the synonyms of a label, which commas part, each as ``folded`` gives it."""
    return tuple(name for part in label.split(",") if (name := folded(part)))


def by_name(part: str, given: object) -> list[tuple[str, object]]:
    """Return the entries of a part of ``Concepts`` that is a dict with text as keys.

    Raises:
        TypeError: something else; a key that is no text would be refused when the audit is kept, after all its work.
    """
    if not isinstance(given, Mapping):
        raise wrong_type(f"concepts, {part}", "a dict from names to lists of words", given)
    for name in given:
        if not isinstance(name, str):
            raise wrong_type(f"concepts, {part}", "a dict with text as keys", name)
    return [*given.items()]


def unknown_labels(core: Mapping[str, object], labels: Sequence[str] | None) -> list[UnknownNameError]:
    """Return an error for each class that concepts are declared for and that a classifier does not have.

    A concept of a misspelt class would be called a shortcut of the class that it was meant for.

    Args:
        core: label to the concepts that a user declares.
        labels: of the classifier; None where it has none.

    Raises:
        TypeError: a label that is no text.
    """
    declared = [label for label, _ in by_name("core", core)]
    known = declared if labels is None else labels
    heard = {folded(label) for label in known}
    return [unknown_name("concepts, core", label, known) for label in declared if folded(label) not in heard]


def parts_of(value: object, parts: Sequence[str]) -> Mapping[str, Json]:
    """Return the arguments of ``Concepts`` in the value of its JSON file.

    Args:
        value: a dict of some of the parts, or of the groups alone.
        parts: names of all arguments.

    Raises:
        TypeError: no dict.
        UnknownNameError: something else beside parts of which one is a dict, as no group of values is.
    """
    if not isinstance(value, Mapping):
        raise wrong_type("concepts", "a JSON object", value)
    unknown = [name for name in value if name not in parts]
    deep = any(isinstance(given, Mapping) for given in value.values())
    if len(unknown) == len(value) or not (deep or (not unknown and "groups" not in value)):
        return {"groups": value}
    if unknown:
        raise unknown_name("concepts", unknown[0], parts)
    return value


def checked_name(argument: str, text: object) -> str:
    """Return a name that a caption can hold."""
    if not isinstance(text, str):
        raise wrong_type(argument, "text", text)
    if not _NAME.fullmatch(text) or text != " ".join(text.split()):
        raise wrong_value(argument, "names without ':', ',', braces or spare spaces", repr(text))
    return text


def checked_values(argument: str, values: object) -> tuple[str, ...]:
    """Return a list of such names, each once."""
    return tuple(checked_name(argument, value) for value in listed(argument, values))


def listed(argument: str, values: object) -> tuple[str, ...]:
    """Return a list that is not empty and has nothing twice."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise wrong_type(argument, "a list of words", values)
    for value in values:
        if not isinstance(value, str):
            raise wrong_type(argument, "text", value)
    if not values:
        raise wrong_value(argument, "at least one value", "an empty list")
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise wrong_value(argument, "every value once", f"{', '.join(twice)} twice")
    return tuple(values)


def check_told_apart(lists: Iterable[Sequence[str]], pipeline: Pipeline) -> None:
    """Refuse two words of one list that the pipeline reads as the same, such as those that differ in capitals only.

    Args:
        lists: words of one group, or free words, each as it is said.
        pipeline: its tokenizer reads them.

    Raises:
        ValueError: names both.
    """
    for words in lists:
        read: dict[tuple[tuple[int, ...], ...], str] = {}
        for word in words:
            ids = (read_by(word, add_special_tokens=False, verbose=False).input_ids for read_by in pipeline.tokenizers)
            first = read.setdefault(tuple(map(tuple, ids)), word)
            if first != word:
                wanted = f"every value once, as the tokenizer of {pipeline.name} reads it"
                raise wrong_value("concepts", wanted, f"{first!r} and {word!r}, which are the same tokens")
