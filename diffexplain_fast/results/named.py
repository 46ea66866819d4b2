"""The name of a prompt that was found without words: words whose own pictures convince as those of the prompt do."""

from typing import TypedDict

from diffexplain_fast.records import Count, Share

AS_WELL = 2 / 3
"""Share of a mean probability from which another text convinces as well. It is above one half, because what a text does
not ask for may be there by chance in half of its pictures, and below one, because a generator does not obey each word
each time, and because a prompt that was optimised for a class also avoids what other classes look for."""

LEAST = 0.5
"""Mean probability of the class below which words name nothing, even where they convince as well as the prompt."""


class _Measured(TypedDict):
    words: list[str]
    probability: Share
    prompt_probability: Share
    pictures: Count
    without: dict[str, Share]
    tried: list[str]
    shown: list[str]
    rows: Count


class Named(_Measured, total=False):
    """What came of naming a prompt.

    Attributes:
        words: the name; empty where no words that were tried convince as the prompt does, or with a mean probability of
            at least ``LEAST``. Words of ``tried`` that are not among them only help to draw these: without them, or
            with others in their place, pictures convince too.
        probability: mean probability of the class, over pictures of only the words in ``tried``.
        prompt_probability: the same of the prompt that was found, over pictures from the same start noise.
        pictures: number of these pictures.
        without: word of ``tried`` to the mean probability without this word; empty for a single word, and without a
            name. A word that the budget left untested is missing.
        tried: the words that convinced most, whether they are a name or not.
        shown: what the denoiser sees in the prompt's pictures, the clearest first; it says nothing of the classifier.
        rows: rows of the denoiser that the naming took.
        untested: words of ``tried`` that the budget left untested: without them, or with others in their place; missing
            where it left none.
    """

    untested: list[str]
