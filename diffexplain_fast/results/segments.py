"""The paper's own scores of explained pictures: evidence beside a trial, and no decision."""

from dataclasses import dataclass

from diffexplain_fast.number_texts import share_text
from diffexplain_fast.records import Count, Number
from diffexplain_fast.results.record import Record


@dataclass(frozen=True)
class SegmentRow(Record):
    """What a segmenter finds of one concept in explained pictures of a target.

    Attributes:
        target: label of the class, with its index where classes share the label; its index without labels.
        concept: "group:value".
        presence: share of the pictures in which the concept covers at least 2 % of the pixels.
        usual: the same in pictures of the class name only; None without such pictures.
        pixels: share of the pixels that it covers, mean over the pictures in which it is present; None in none.
        drop: by how much the value of the class in an audit falls where the concept is removed: the region drawn anew
            with the picture's own prompt, minus the region drawn anew without a prompt, mean over pictures; None where
            it is present in no picture.
        low: lower end of Student's interval of ``drop``; None for one picture.
        high: upper end.
        removed: pictures in which it was removed.
    """

    target: str
    concept: str
    presence: Number
    usual: Number | None
    pixels: Number | None
    drop: Number | None
    low: Number | None
    high: Number | None
    removed: Count


@dataclass(frozen=True)
class PrefixRow(Record):
    """What a prompt with a prefix, such as "a texture of", reaches.

    Attributes:
        target: description of the target.
        prefix: words before the soft tokens; "" for none.
        rate: share of unseen pictures that are answered with the target, None for a target without a class.
        low: lower end of Wilson's interval of ``rate``.
        high: upper end.
        logit: mean of the target's score; for a class by itself of its logit.
        words: the nearest word of every soft token.
        pictures: unseen pictures.
    """

    target: str
    prefix: str
    rate: Number | None
    low: Number | None
    high: Number | None
    logit: Number
    words: list[str]
    pictures: Count


def texture_sentence(texture: PrefixRow, shape: PrefixRow) -> str:
    """Return what pictures of a texture and of a shape say of a texture bias.

    Args:
        texture: of a prefix that asks for a texture.
        shape: of a prefix that asks for a shape.
    """
    if texture.rate is None or shape.rate is None or None in (texture.low, texture.high, shape.low, shape.high):
        return f"{texture.target}: it has no answers, so that textures and shapes cannot be compared."
    assert texture.low is not None and shape.high is not None and texture.high is not None and shape.low is not None
    said = f"{texture.target}: answered in {share_text(texture.rate)} of pictures of {texture.prefix!r}"
    said = f"{said} and in {share_text(shape.rate)} of {shape.prefix!r}"
    if texture.low > shape.high:
        return f"{said}: a texture is enough, as in a texture bias."
    if shape.low > texture.high:
        return f"{said}: a shape is enough, and a texture is not."
    return f"{said}: their intervals overlap, so that neither is shown to count more."
