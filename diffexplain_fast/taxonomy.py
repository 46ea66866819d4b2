"""Semantics as a tree, from coarse to fine: read from and written to the two forms that DiffEx is published with."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.given_files import given_bytes, given_path
from diffexplain_fast.records import Json
from diffexplain_fast.semantic_tree import leaves, object_in, read_nodes, short_name, tree_of, written
from diffexplain_fast.storage import parse_json, write_json_atomic

_ASKED, _SHOWN = 3, 200
_QUESTION = (
    "List the visual semantics in which these pictures differ or could differ, from coarse to fine. "
    "Answer with JSON only: "
    '{"domain": "...", "categories": {"category": {"item": ["fine value", "..."]}}}. Use short common words, each once.'
)
FORMS = ("released", "paper")
_PARTS = ("categories", "domain")
"""Keys of the released form."""
_SAME = {"color": "colour", "scene": "background", "material": "texture", "position": "place"}


def usual_name(category: str) -> str:
    """Return the name under which methods know a category: "colour" of "Color"."""
    name = category.strip().lower()
    return _SAME.get(name, name)


@dataclass(frozen=True)
class Concept:
    """A leaf of a taxonomy.

    Attributes:
        name: "background:desert"; the whole path where that is not unique, as in "hair:long:red".
        path: names from the category to the leaf.
    """

    name: str
    path: tuple[str, ...]

    @property
    def category(self) -> str:
        """First name of the path, "" for a leaf without a category."""
        return self.path[0] if len(self.path) > 1 else ""

    @property
    def word(self) -> str:
        """Last name of the path, which a prompt says."""
        return self.path[-1]


class _Row(Protocol):
    @property
    def target(self) -> str: ...
    @property
    def concept(self) -> str: ...


class Found(Protocol):
    """What of an audit is read here; see ``results.audit.Audit``."""

    @property
    def rows(self) -> Sequence[_Row]: ...
    @property
    def findings(self) -> Sequence[_Row]: ...


class Taxonomy:
    """A tree of semantics of any depth; its first level are categories such as "background".

    Of a category that methods know by its usual name (background, colour, texture, object, companion, size, place) a
    picture shows one value, at any depth. Of others it shows one below each node, so blond hair may have blue eyes.

    Args:
        categories: names to what is below them: a dict, a list or set of names, or None for a leaf. Also a list of such
            dicts, as the paper prints it, or a list of names.
        domain: what pictures it is about.

    Attributes:
        concepts: its leaves, in the order given.
        domain: as it was given.

    Raises:
        TypeError: something in it that is neither a name nor what may be below one.
        ValueError: a node with children below one of its own name, two nodes of one name below the same node, an empty
            name, or a node that is to have children and has none; the message says where.

    Source: DiffEx (CVPR 2025), tables G and H, and the JSON of its released code.
    """

    def __init__(self, categories: object, domain: str = "") -> None:
        if not isinstance(domain, str):
            raise wrong_type("domain", "text", domain)
        self.domain, self._roots = domain, read_nodes(categories, ())
        paths = list(leaves(self._roots, ()))
        short = Counter(short_name(path) for path in paths)
        names = [short_name(path) if short[short_name(path)] == 1 else ":".join(path) for path in paths]
        for name, count in Counter(names).items():
            if count > 1:
                raise wrong_value("taxonomy", "concepts that can be told apart", f"{name!r} twice")
        self.concepts = tuple(Concept(name, path) for name, path in zip(names, paths, strict=True))

    @classmethod
    def from_json(cls, value: Json) -> "Taxonomy":
        """Return a taxonomy of JSON values, of any depth.

        Args:
            value: the paper's form, a list of {ATTRIBUTE: [...]}, or the released code's, a dict with "categories" and
                perhaps "domain"; or the categories alone.

        Raises:
            TypeError: see ``Taxonomy``.
            UnknownNameError: something else beside "categories", or beside "domain" in their place.
            ValueError: see ``Taxonomy``.
        """
        if not isinstance(value, dict) or not ("categories" in value or isinstance(value.get("domain"), str)):
            return cls(value)
        for name in value:
            if name not in _PARTS:
                raise unknown_name("taxonomy", name, _PARTS)
        return cls(value.get("categories"), value.get("domain", ""))

    @classmethod
    def of(cls, given: object) -> "Taxonomy":
        """Return a taxonomy, given as one, as values of its JSON, or as a file; see ``load`` for what is raised."""
        if isinstance(given, str | Path):
            return cls.load(given)
        if isinstance(given, Mapping | list | tuple):
            return cls.from_json(given)
        if not isinstance(given, Taxonomy):
            raise wrong_type("taxonomy", "a Taxonomy, values of its JSON, a file, or None", given)
        return given

    @classmethod
    def load(cls, path: str | Path) -> "Taxonomy":
        """Read a JSON file; see ``from_json``.

        Args:
            path: the file.

        Raises:
            FileNotFoundError: there is none.
            CorruptFileError: the content is not JSON, or has a key twice in one object.
            ValueError: see ``Taxonomy``; or a folder.
        """
        content = given_bytes("taxonomy", "a Taxonomy, values of its JSON, or a file", path)
        return cls.from_json(parse_json(content, path, "JSON of a taxonomy"))

    @classmethod
    def propose(cls, images: Sequence[object], model: Callable[[Sequence[object], str], str]) -> "Taxonomy":
        """Let a vision-language model propose a taxonomy of what changes from picture to picture.

        Args:
            images: pictures, at least one, of any kind that the model takes.
            model: an ``ImageTextToText`` on this machine, an ``Endpoint``, or a function of pictures and a question
                that returns the model's answer as text. It is asked up to three times, until its answer holds a
                taxonomy; the second and third question say what was wrong with the answer before.

        Raises:
            TypeError: no list of pictures, a model that is no function, or an answer that is no text.
            ValueError: no picture, or no answer that holds the JSON of a taxonomy; the message has the last problem.
            ConnectionError: an ``Endpoint`` that cannot be reached.

        Source: DiffEx (CVPR 2025), section 3.1.
        """
        if not callable(model):
            raise wrong_type("model", "a function of pictures and a question", model)
        if isinstance(images, str | bytes) or not isinstance(images, Sized) or getattr(images, "shape", None) == ():
            raise wrong_type("images", "a list of pictures", images)
        if not len(images):
            raise wrong_value("images", "at least one picture", "none")
        problem, question = "", _QUESTION
        for _ in range(_ASKED):
            answer = model(images, question)
            if not isinstance(answer, str):
                raise wrong_type("model", "a function that returns text", answer)
            try:
                return cls.from_json(object_in(answer))
            except (ValueError, TypeError, RecursionError) as error:
                problem = f"{answer[:_SHOWN]!r} ({error})"
                # A model that answers the same question always alike could not do better otherwise.
                question = f"{_QUESTION} Your last answer could not be read: {error}."
        raise wrong_value("model", "an answer with the JSON of a taxonomy", problem)

    @classmethod
    def from_audit(cls, audit: Found, target: str | None = None) -> "Taxonomy":
        """Return the concepts that an audit has found, so that they can be edited on one's own pictures.

        A category is whole, with values that nothing was found of: a picture that shows a found value is edited by
        showing another one. A free word has no category, except "word" where a category has the name of the word. Names
        that differ in capitals only count once, as the first one is written.

        Args:
            audit: with at least one finding.
            target: only findings of this label; None for those of all.

        Raises:
            TypeError: something that is no audit.
            UnknownNameError: no such target; the message names the five nearest.
            ValueError: no finding.

        Source: none; this joins discovery and edits.
        """
        if not hasattr(audit, "findings"):
            raise wrong_type("audit", "an Audit", audit)
        targets = dict.fromkeys(row.target for row in audit.rows)
        if target is not None and target not in targets:
            raise unknown_name("target", target, targets)
        chosen = [row.concept for row in audit.findings if target in (None, row.target)]
        if not chosen:
            wanted = "an audit with findings" + ("" if target is None else f" of {target!r}")
            raise wrong_value("audit", wanted, "none")
        tree = tree_of(chosen, [row.concept for row in audit.rows])
        return cls(tree, domain=", ".join(targets) if target is None else target)

    def to_json(self, form: str = "released") -> Json:
        """Return the taxonomy as values of JSON.

        Args:
            form: "released", {"domain": ..., "categories": {...}}, or "paper", [{category: ...}, ...] without domain.

        Raises:
            UnknownNameError: another form.
        """
        if form not in FORMS:
            raise unknown_name("form", form, FORMS)
        if form == "released":
            return {"domain": self.domain, "categories": written(self._roots)}
        return [{root.name: written(root.children)} if root.children else root.name for root in self._roots]

    def save(self, path: str | Path, form: str = "released") -> Path:
        """Write a JSON file; see ``to_json``.

        Args:
            path: the file, which is replaced.
            form: of the tree, see ``to_json``.

        Returns:
            The file.

        Raises:
            TypeError: a file that is no path.
            UnknownNameError: another form.
            StorageError: the file cannot be written.
        """
        place = given_path("path", path)
        write_json_atomic(place, self.to_json(form))
        return place

    def concept(self, name: str) -> Concept:
        """Return a leaf by its name, such as "background:desert".

        Raises:
            UnknownNameError: no such leaf; the message names the five nearest.
        """
        for concept in self.concepts:
            if concept.name == name:
                return concept
        raise unknown_name("concept", name, [concept.name for concept in self.concepts])

    def siblings(self, category: str) -> list[Concept]:
        """Return all leaves of a category; of the leaves without one, none."""
        return [concept for concept in self.concepts if category and concept.category == category]

    @property
    def inner(self) -> list[tuple[str, ...]]:
        """Paths of the nodes that have children, a parent before its children."""
        return list(dict.fromkeys(c.path[:depth] for c in self.concepts for depth in range(1, len(c.path))))

    def below(self, path: tuple[str, ...]) -> list[Concept]:
        """Return the leaves below a node, given by its path."""
        return [concept for concept in self.concepts if concept.path[: len(path)] == path]

    def cut_words(self, tokens: Callable[[str], int]) -> list[str]:
        """Return the leaves' words that a tokenizer cuts into pieces, whose meaning the pipeline may not know.

        Args:
            tokens: how many tokens a text has.
        """
        return [word for word in dict.fromkeys(c.word for c in self.concepts) if tokens(word) > len(word.split())]

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Taxonomy) and (self.domain, self._roots) == (other.domain, other._roots)
        return same if isinstance(other, Taxonomy) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.concepts)

    def __repr__(self) -> str:
        return f"Taxonomy({len(self._roots)} categories, {len(self)} concepts)"
