"""From the pictures that a user gives to an audit to what they say of the classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.shipped import Segment, checked_segment, shipped_with
from diffexplain_fast.given_files import given_path
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.methods.photographs.given import Given, given_pictures
from diffexplain_fast.methods.photographs.photographs import photographs_of
from diffexplain_fast.methods.photographs.sentences import with_unexplained
from diffexplain_fast.methods.photographs.tools import Tools, check_tools
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.runs.progress import Progress, counter

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Picturing:
    """Own pictures of an audit, checked.

    Attributes:
        given: the pictures; None where the user has given none.
        segment: the user's segmenter; None for the one that ships.
    """

    given: Given | None
    segment: Segment | None

    @classmethod
    def of(cls, images: object, labels: object, segmenter: object, pipeline: Pipeline) -> "Picturing":
        """Check the pictures of a user.

        Args:
            images: see ``Explainer.audit``.
            labels: a label for each picture, or None.
            segmenter: function of pixels and texts, or None.
            pipeline: pictures are scaled to its size.
        """
        if segmenter is not None and not callable(segmenter):
            raise wrong_type("segmenter", "a function of pixels [B, 3, H, W] and B texts, or None", segmenter)
        if images is None:
            if labels is not None:
                raise wrong_value("labels", "None without images", "labels")
            return cls(None, None)
        if isinstance(images, str | Path):
            images, named = read_pictures(images)
            labels = named if labels is None else labels
        pixels = as_pixels(images, pipeline.image_size, pipeline.device).to(pipeline.dtype)
        return cls(given_pictures(pixels, labels), None if segmenter is None else checked_segment(segmenter))

    def check(self, question: Question) -> None:
        """Refuse what would fail when all pictures of the generator are drawn.

        Args:
            question: what the audit asks.

        Raises:
            ImportError: a package is missing; names the extra.
            ValueError: a segmenter that returns something else than masks.
        """
        if self.given is not None:
            check_tools(self._tools(question), self.given, question.concepts)

    def add(self, audit: Audit, question: Question, callback: Callable[[Progress], None] | None) -> None:
        """Put into an audit what the pictures say.

        Args:
            audit: of generated pictures.
            question: what it has asked.
            callback: receives a ``Progress``.
        """
        if self.given is None:
            return
        tools, report = self._tools(question), counter(callback, "photographs")
        found = photographs_of(self.given, question.concepts, question.readout, tools, audit, report)
        audit.photographs, audit.verdicts = found, with_unexplained(audit.verdicts, found)

    def _tools(self, question: Question) -> Tools:
        shipped = shipped_with(question.pool.pipeline)
        return Tools(question.sight, shipped.segment if self.segment is None else self.segment, shipped.ask)


def read_pictures(folder: str | Path) -> tuple[list[Image.Image], Sequence[str] | None]:
    """Return the pictures of a folder; the names of its subfolders are their labels, where it has subfolders.

    Args:
        folder: with pictures, or with a folder of pictures for each label.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: an empty text, no picture in the folder, a file that is not a picture, or pictures beside folders of
            pictures.
    """
    place = given_path("images", folder)
    if not place.is_dir():
        raise FileNotFoundError(f"images: wanted a folder of pictures, got {place}, which does not exist")
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    depths = {len(path.relative_to(place).parts) for path in paths}
    if not paths or depths not in ({1}, {2}):
        wanted = f"a folder of pictures ({', '.join(_SUFFIXES)}), or of one folder for each label"
        raise wrong_value("images", wanted, f"{len(paths)} pictures in {place}, {sorted(depths)} folders deep")
    found = []
    for path in paths:
        try:
            with Image.open(path) as image:
                found.append(image.copy())
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise wrong_value("images", "files that are pictures", f"{path}: {error}") from error
    return found, [path.parent.name for path in paths] if depths == {2} else None
