"""How a caption says the values of a scene: by the grammar of the tiny world, or by plain lists for other pipelines."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.concepts import Concepts, is_tiny_world
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.tinyworld.grammar import VOCABULARY, partial_caption
from diffexplain_fast.tinyworld.words import NOTHING, OBJECTS, WORLD, caption, values_of

Scene = Mapping[str, str]
"""Group name to the value that a caption asks for; a group that the caption leaves out is not there."""
Say = Callable[[Scene, Sequence[str], int], str]

_LISTS = ("a photo of {}", "a picture of {}", "an image with {}", "a scene with {}")
"""None of them is a bare list, because bare words are what a search for a prompt draws."""


@dataclass(frozen=True)
class Phrases:
    """The phrasings of a set of concepts.

    Attributes:
        name: of the grammar, for the identity of a pool.
        count: how many phrasings there are; they are numbered from 0.
        silent: whether a caption may leave a group out. In the grammar of the world that shipped first it may not,
            because silence about a surface says "plain" there, and silence about a companion says "nothing".
        of_tiny_world: whether the concepts are the tiny world's own attributes.
        say: of a scene, free words and the number of a phrasing the caption.
    """

    name: str
    count: int
    silent: bool
    say: Say
    of_tiny_world: bool = True


def phrases_of(concepts: Concepts, pipeline: Pipeline) -> Phrases:
    """Return the phrasings for concepts: the tiny world's own grammar where all groups are its attributes."""
    ours = all(group in WORLD and set(values) <= set(values_of(group)) for group, values in concepts.groups.items())
    if not ours or not is_tiny_world(pipeline):
        forms = tuple(form for form in _LISTS if pipeline.spells(form.removesuffix("{}"))) or _LISTS
        return Phrases("lists", 2 * len(forms), True, partial(_listed, forms), of_tiny_world=False)
    if set(VOCABULARY) <= set(pipeline.words()):
        return Phrases("tiny world, absence said", 2, True, _told)
    return Phrases("tiny world", 4, False, _told_at_first)


def reworded(text: str, words: Mapping[str, str]) -> str:
    """Return a caption with other words: value that is said to the word that takes its place."""
    for value, word in words.items():
        text = re.sub(rf"\b{re.escape(value)}\b", word, text, count=1)
    return text


def check_captions(captions: Sequence[str], pipeline: Pipeline) -> None:
    """Refuse captions that the pipeline would truncate.

    Args:
        captions: all captions of a trial.
        pipeline: draws the pictures.

    Raises:
        ValueError: names the first caption that is too long.
    """
    for text in dict.fromkeys(captions):
        if not pipeline.fits(text):
            wanted = f"captions of at most {pipeline.max_tokens} tokens, one value of every group in each"
            raise wrong_value("concepts", wanted, f"{text!r}, which would be truncated; leave out a group")


def surely_fit(
    concepts: Concepts, phrases: Phrases, pipeline: Pipeline, group: str, objects: Sequence[str], bag: int
) -> bool:
    """Return True if no caption of an own object can be truncated, because the longest one is not; False says nothing.

    Only lists are known to be longest with the longest values. The grammar of the tiny world may say the absence of a
    thing in more words than its presence.

    Args:
        concepts: what captions ask for.
        phrases: how it is said.
        pipeline: its tokenizer says how long a word is.
        group: what an own object is called in a caption.
        objects: names of the own objects.
        bag: free words of one caption, at most.
    """
    if phrases.of_tiny_world or not objects:
        return not objects

    @cache
    def size(text: str) -> int:
        return len(pipeline.token_ids(text))

    said = {
        name: max((word for word, _ in concepts.words_of(name) if word != NOTHING), key=size, default=NOTHING)
        for name in concepts.groups
    }
    scene = said | {group: max(objects, key=size)}
    words = sorted(concepts.words, key=size, reverse=True)[:bag]
    return all(pipeline.fits(phrases.say(scene, words, number)) for number in range(phrases.count))


def _listed(forms: Sequence[str], scene: Scene, words: Sequence[str], number: int) -> str:
    """Return the values as a list, in their order or backwards; absence is silence, because "no sun" draws a sun."""
    items = [value for value in scene.values() if value != NOTHING] + list(words)
    backwards, form = divmod(number, len(forms))
    return forms[form].format(", ".join(reversed(items) if backwards else items)) if items else "a photo"


def _told(scene: Scene, words: Sequence[str], number: int) -> str:
    """Return the caption of the recipe's grammar."""
    # An object that is not said is there all the same, so that its colour can be said.
    text = partial_caption({"object": OBJECTS[0], "style": "scene", **scene}, set(scene))
    return _prefixed(text, words, number)


def _told_at_first(scene: Scene, words: Sequence[str], number: int) -> str:
    """Return the caption of the grammar of the world that shipped first; half of the phrasings say "plain"."""
    attributes = {"texture": "plain", "style": "scene", **scene}
    text = caption(attributes)
    if number >= 2 and scene.get("texture") == "plain" and scene.get("object"):
        text = text.replace(scene["object"], f"plain {scene['object']}", 1)
    return _prefixed(text, words, number)


def _prefixed(text: str, words: Sequence[str], number: int) -> str:
    text = " ".join((text, *words))
    return f"a picture of {text}" if number % 2 and not text.startswith("a picture") else text
