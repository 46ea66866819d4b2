"""The concepts of a trial: groups of values of which a picture has one each, and free words."""

import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from diffexplain_fast.errors import callers_level, wrong_type, wrong_value
from diffexplain_fast.evidence.concept_names import (
    by_name,
    check_told_apart,
    checked_name,
    checked_values,
    listed,
    parts_of,
    unknown_labels,
)
from diffexplain_fast.given_files import given_bytes
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import JsonObject
from diffexplain_fast.storage import parse_json
from diffexplain_fast.targets import whole_number
from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, WORLD

WORD = "word"
"""Group name of free words in the names of concepts, such as "word:striped"."""
_SMALL_WORLD = 256
"""A vocabulary of fewer words that holds all attributes of the tiny world is the tiny world's."""
_LETTERS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_FEWEST_CAPTIONS, _MOST_WORDS = 2, 64
# fmt: off
_STOP_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "its", "of", "on", "or", "that", "the",
    "there", "this", "to", "was", "with",
))
# fmt: on


@dataclass(frozen=True)
class Concepts:
    """What a trial asks a generator for, one value of every group in each caption.

    Args:
        groups: group name to its values, at least two each, such as ``{"background": ["desert", "snow"]}``. The value
            "nothing" asks for the absence of the group.
        words: free words that exclude nothing; a caption holds a few of them.
        core: label of a class to the concepts that its user declares as the class's own, such as
            ``{"fish": ["background:sea"]}``; the concept of the label's own name always is.
        similar: the same, declared by the likeness of texts; see ``Explainer.candidates``.
        synonyms: value of a group, as "background:desert", to other words that name it too; each word is said equally
            often. With at least 4 words, its own among them, a trial tests whether they act through the value only.

    Raises:
        TypeError: groups, values or words of another kind.
        ValueError: no concept at all, an empty or duplicated list, a name that a caption cannot hold, a declared
            concept that does not exist.
    """

    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    words: Sequence[str] = ()
    core: Mapping[str, Sequence[str]] = field(default_factory=dict)
    similar: Mapping[str, Sequence[str]] = field(default_factory=dict)
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.groups, Mapping):
            raise wrong_type("concepts", "a dict from group names to lists of values", self.groups)
        groups = {
            checked_name("concepts", group): checked_values(f"concepts, {group}", values)
            for group, values in self.groups.items()
        }
        for group, values in groups.items():
            if len(values) < 2:
                raise wrong_value(f"concepts, {group}", "at least two values", list(values))
        words = checked_values("concepts, words", self.words) if self.words else ()
        if not groups and not words:
            raise wrong_value("concepts", "at least one group of values, or free words", "none")
        if WORD in groups:
            raise wrong_value("concepts", f"groups of other names than {WORD!r}, the name for free words", WORD)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "words", words)
        for part, given in (("core", self.core), ("similar", self.similar)):
            declared = {label: listed(f"concepts, {part} of {label}", named) for label, named in by_name(part, given)}
            object.__setattr__(self, part, declared)
            for label, named in declared.items():
                if unknown := set(named) - set(self.names):
                    raise wrong_value(f"concepts, {part} of {label}", "concepts of the trial", sorted(unknown))
        others = {
            name: checked_values(f"concepts, synonyms of {name}", named)
            for name, named in by_name("synonyms", self.synonyms)
        }
        object.__setattr__(self, "synonyms", others)
        self._check_synonyms()

    def _check_synonyms(self) -> None:
        """Refuse synonyms of what is no value of a group, of absence, and words that name something else already."""
        grouped = [f"{group}:{value}" for group, values in self.groups.items() for value in values]
        taken = {value for values in self.groups.values() for value in values} | {*self.words}
        for name, named in self.synonyms.items():
            if name not in grouped or name.endswith(f":{NOTHING}"):
                raise wrong_value("concepts, synonyms", "values of groups, not of absence", name)
            if twice := taken.intersection(named):
                raise wrong_value(f"concepts, synonyms of {name}", "words of no other value", sorted(twice))
            taken |= {*named}

    def declared_among(self, names: Collection[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return ``core`` and ``similar`` without the concepts that are not among some names, and without labels that
        have none of them."""
        core, similar = (
            {label: kept for label, named in part.items() if (kept := [name for name in named if name in names])}
            for part in (self.core, self.similar)
        )
        return core, similar

    def with_words(self, words: Sequence[str]) -> "Concepts":
        """Return the same concepts with some of the free words only; all else stays as it is.

        Args:
            words: some of the free words; none of them only where there are groups.
        """
        left = {f"{WORD}:{word}" for word in words} | {name for name in self.names if not name.startswith(f"{WORD}:")}
        core, similar = self.declared_among(left)
        return replace(self, words=words, core=core, similar=similar)

    def words_of(self, group: str) -> list[tuple[str, int]]:
        """Return the words of a group, each with the place of the value that it names; a value's own word is first."""
        return [
            (word, place)
            for place, value in enumerate(self.groups[group])
            for word in (value, *self.synonyms.get(f"{group}:{value}", ()))
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Every concept as "group:value", free words as "word:value"."""
        grouped = [f"{group}:{value}" for group, values in self.groups.items() for value in values]
        return (*grouped, *(f"{WORD}:{word}" for word in self.words))

    @classmethod
    def read(cls, path: str | Path) -> "Concepts":
        """Read concepts from a file.

        Args:
            path: JSON (``{"groups": {...}, "words": [...], "core": {...}, "synonyms": {...}}``, or the groups alone),
                or text: a line "background: desert, snow" for a group, any other line for a free word; "#" begins a
                comment.

        Returns:
            The concepts.

        Raises:
            CorruptFileError: JSON that is damaged, or has a key twice in one object.
            FileNotFoundError: there is no file.
            UnknownNameError: a misspelt part beside the others in JSON.
            ValueError: a file without concepts, or a list that ``Concepts`` refuses.
        """
        try:
            text = given_bytes("concepts", "a list of words, or a file of concepts", path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise wrong_value("concepts", "a text file in UTF-8", path) from error
        if text.lstrip().startswith("{"):
            return cls(**parts_of(parse_json(text.encode(), path), [part.name for part in fields(cls)]))
        groups: dict[str, list[str]] = {}
        words: list[str] = []
        for line in (line.partition("#")[0].strip() for line in text.splitlines()):
            name, colon, values = line.partition(":")
            if colon and name.strip() in groups:
                raise wrong_value("concepts", "each group in one line", f"{name.strip()} twice")
            if colon:
                groups[name.strip()] = [value.strip() for value in values.split(",")]
            elif line:
                words.append(line)
        return cls(groups, words)

    @classmethod
    def from_captions(cls, captions: Iterable[str], most: int = _MOST_WORDS) -> "Concepts":
        """Return the words of captions as free words, the most frequent first.

        Args:
            captions: texts, such as a captioner writes about pictures of a class.
            most: how many words at most; at least 1.

        Returns:
            Concepts of words that at least two captions hold.

        Raises:
            TypeError: captions that are no texts, or a number of words that is not whole.
            ValueError: no word is in two captions; a number of words below 1.
        """
        if whole_number("most", most) < 1:
            raise wrong_value("most", "at least 1", most)
        if isinstance(captions, str | bytes) or not isinstance(captions, Iterable):
            raise wrong_type("captions", "texts", captions)
        counts: Counter[str] = Counter()
        for caption in captions:
            if not isinstance(caption, str):
                raise wrong_type("captions", "texts", caption)
            said = dict.fromkeys(
                word.lower() for word in _LETTERS.findall(caption)
            )  # in order: a set's order is chance
            counts.update(word for word in said if word not in _STOP_WORDS)
        words = [word for word, count in counts.most_common() if count >= _FEWEST_CAPTIONS and len(word) > 1]
        if not words:
            raise wrong_value("captions", f"captions that share words ({_FEWEST_CAPTIONS} captions a word)", "none")
        return cls(words=words[:most])

    def record(self) -> JsonObject:
        """Return the concepts as JSON values."""
        groups = {group: list(values) for group, values in self.groups.items()}
        core, similar, synonyms = (
            {name: list(named) for name, named in part.items()} for part in (self.core, self.similar, self.synonyms)
        )
        record: JsonObject = {"groups": groups, "words": list(self.words), "core": core, "synonyms": synonyms}
        return record | ({"similar": similar} if similar else {})

    def check(self, pipeline: Pipeline) -> None:
        """Refuse words that the pipeline's tokenizers cut into letters, do not know, or read as the same word.

        Args:
            pipeline: draws the pictures.

        Raises:
            ValueError: names the words.
        """
        said = {value for values in self.groups.values() for value in values if value != NOTHING} | {*self.words}
        said |= {word for named in self.synonyms.values() for word in named}
        cut = sorted(value for value in said if not pipeline.spells(value))
        if cut:
            wanted = f"words that the tokenizer of {pipeline.name} knows"
            raise wrong_value("concepts", wanted, f"{', '.join(cut)}, cut into letters or unknown")
        check_told_apart([self.words, *([word for word, _ in self.words_of(name)] for name in self.groups)], pipeline)

    def check_labels(self, labels: Sequence[str] | None) -> None:
        """Warn of ``core`` of labels that a classifier does not have: misspelt ones, or those of another classifier.

        Args:
            labels: of the classifier; None where it has none.
        """
        for unknown in unknown_labels(self.core, labels):
            warnings.warn(f"{unknown}; what it declares counts for no class here", stacklevel=callers_level())


def concepts_of(given: object, pipeline: Pipeline) -> Concepts:
    """Return the concepts that a user means.

    Args:
        given: ``Concepts``, a dict of groups, a ``Taxonomy``, a list of free words, the path of a file, or None for the
            attributes of the tiny world.
        pipeline: draws the pictures.

    Raises:
        TypeError: something else.
        ValueError: None with another pipeline than the tiny world's; a list that ``Concepts`` refuses; words that the
            tokenizer cuts.
    """
    if given is None:
        if not (is_tiny_world(pipeline)):
            raise wrong_value("concepts", f"groups of values or words for {pipeline.name}, see Concepts", None)
        found = tiny_world_concepts(pipeline)
    elif isinstance(given, Concepts):
        found = given
    elif isinstance(given, str | Path):
        found = Concepts.read(given)
    elif isinstance(given, Mapping):
        found = Concepts(given)
    elif isinstance(given, Taxonomy):
        found = _of_taxonomy(given)
    elif isinstance(given, Sequence):
        if not given:
            raise wrong_value("concepts", "at least one group of values, or free words", "an empty list")
        found = Concepts(words=given)
    else:
        raise wrong_type("concepts", "Concepts, a dict of groups, a Taxonomy, a list of words, or a file", given)
    found.check(pipeline)
    return found


def _of_taxonomy(taxonomy: Taxonomy) -> Concepts:
    """Return the leaves of a taxonomy, of which a category of two or more is a group; others are free words."""
    sizes = Counter(leaf.category for leaf in taxonomy.concepts if leaf.category)
    groups = {name: [leaf.word for leaf in taxonomy.siblings(name)] for name, size in sizes.items() if size > 1}
    return Concepts(groups, [leaf.word for leaf in taxonomy.concepts if leaf.category not in groups])


def is_tiny_world(pipeline: Pipeline) -> bool:
    """Return whether the words of a pipeline are those of the tiny world."""
    words = set(pipeline.words())
    named = ("object", "colour", "texture", "background", "companion")
    return len(words) < _SMALL_WORLD and words.issuperset(value for name in named for value in WORLD[name])


def tiny_world_concepts(pipeline: Pipeline) -> Concepts:
    """Return the attributes of the tiny world that its pipeline has words for, a missing companion included."""
    words = set(pipeline.words())
    groups = {name: list(values) for name, values in WORLD.items() if words.issuperset(values)}
    groups["companion"].append(ABSENCE["companion"])
    return Concepts(groups)
