"""Pictures of an explanation with the classifier's answer to each, and their files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from PIL import Image

from diffexplain_fast.records import Count, Json, JsonObject, Number, Probability, read_as

GROUPS = ("held_out", "class_name", "failures")
"""Groups of pictures: of the explanation, of only the class name from the same start noise, and further failures."""


@dataclass(frozen=True)
class Answer:
    """The classifier's answer to one picture.

    Attributes:
        latent: number of the start noise; equal numbers are equal noise.
        logit: logit of the target class; for a regression its output; for a target without a class the target score.
        probability: probability of the target class, None without a class and for a regression.
        hit: True if the picture is recognised as the target class; None without a class and for a regression.
        label: name of the class that was answered, None where several classes, or none, may be right.
    """

    latent: Count
    logit: Number
    probability: Probability | None = None
    hit: bool | None = None
    label: str | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the classifier's answer to it."""

    image: Image.Image
    answer: Answer


def picture_records(
    pictures: Mapping[str, Sequence[Picture]], name_of: Callable[[Image.Image, str], str]
) -> JsonObject:
    """Return pictures as JSON values.

    Args:
        pictures: pictures by group.
        name_of: function of an image and a proposed file name that returns the name of its file.
    """
    return {
        group: [
            {"image": name_of(picture.image, f"images/{group}-{i:03d}.png"), "answer": asdict(picture.answer)}
            for i, picture in enumerate(shown)
        ]
        for group, shown in pictures.items()
    }


def read_pictures(record: Json, read: Callable[[str], Image.Image], place: str) -> dict[str, list[Picture]]:
    """Return pictures from their JSON values.

    Args:
        record: what ``picture_records`` returned.
        read: function that returns the picture of a file name.
        place: the file, for messages.

    Raises:
        CorruptFileError: values of another structure, or a picture that is damaged.
        UnsafeFileError: a path that leaves the folder.
    """
    groups = read_as(dict[str, list[JsonObject]], record, place)
    return {group: list(_read_group(shown, read, f"{place}, {group}")) for group, shown in groups.items()}


def _read_group(shown: Sequence[JsonObject], read: Callable[[str], Image.Image], place: str) -> Iterable[Picture]:
    for i, entry in enumerate(shown):
        answer = read_as(Answer, entry["answer"], f"{place}, {i}, answer")
        yield Picture(read(read_as(str, entry["image"], f"{place}, {i}, image")), answer)
