"""Eyes: models that say which concepts a picture shows, so that a word that the generator disobeys is noticed."""

import uuid
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.eye_content import content_of_eye
from diffexplain_fast.evidence.kept_captions import KeptCaptions
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.models.seeing import Captioner, Similarity
from diffexplain_fast.tinyworld.grammar import read_caption
from diffexplain_fast.tinyworld.store import has_captioner, load_captioner, load_clip
from diffexplain_fast.tinyworld.words import NOTHING

Eye = Callable[[Tensor], np.ndarray]
"""Pixels [B, 3, H, W] in [0, 1] to float64 [B, concepts]: 1 where the eye sees the concept, 0 where it does not, NaN
where it cannot tell."""
_OF_SESSION: WeakKeyDictionary[object, str] = WeakKeyDictionary()


def numbers_of(argument: str, wanted: str, given: object) -> np.ndarray:
    """Return what a function of the user's gave, as float64 of any shape.

    Raises:
        ValueError: no numbers; names the argument.
    """
    try:
        return np.asarray(given.detach().double().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise wrong_value(argument, wanted, type(given).__name__) from error


def checked_eye(eye: Callable[[Tensor], object], concepts: int) -> Eye:
    """Return an eye of the user's whose answers are checked, each time.

    Args:
        eye: a function of pixels [B, 3, H, W] in [0, 1].
        concepts: how many columns its answers have.

    Returns:
        An eye that raises a ValueError where the function returns anything else than an eye.
    """

    def look(pixels: Tensor) -> np.ndarray:
        answer = eye(pixels)
        wanted = f"a function that returns 1, 0 or NaN for [pictures, {concepts} concepts]"
        seen = numbers_of("eye", wanted, answer)
        if seen.shape != (len(pixels), concepts):
            raise wrong_value("eye", wanted, f"{list(seen.shape)} for {len(pixels)} pictures")
        if not (np.isnan(seen) | (seen == 0) | (seen == 1)).all():
            raise wrong_value("eye", wanted, f"numbers from {np.nanmin(seen):.3g} to {np.nanmax(seen):.3g}")
        return seen

    return look


def fingerprint_of(eye: object) -> str | None:
    """Return what tells an eye of the user's own from others; None where nothing does.

    A module, or a method of one, has its class, the name of the method and the sha256 of its weights, its settings and
    its code, if these can be told, see ``content_of_eye``. Functions and all other objects have no content to compare:
    each has a text of its own, which is the same until the process ends.
    """
    owner, name = getattr(eye, "__self__", eye), getattr(eye, "__name__", "") if hasattr(eye, "__self__") else ""
    try:
        content = content_of_eye(owner) if isinstance(owner, nn.Module) else None
        if content is not None:
            return f"{type(owner).__qualname__}.{name} {content}"
        return f"{_OF_SESSION.setdefault(owner, uuid.uuid4().hex)}.{name}"
    except (TypeError, ValueError):  # weights without content, or an object that cannot be remembered
        return None


class CaptionEye:
    """Sees what a captioner writes in the grammar of the tiny world.

    Args:
        write: pixels [B, 3, H, W] in [0, 1] to a caption of each.
        concepts: what is looked for.
    """

    name = "captioner"

    def __init__(self, write: Callable[[Tensor], list[str]], concepts: Concepts) -> None:
        self._write, self._concepts = write, concepts

    def __call__(self, pixels: Tensor) -> np.ndarray:
        """Return what is seen; a free word is seen where the caption holds the word."""
        rows = []
        for text in self._write(pixels):
            said, words = read_caption(text), set(text.split())
            grouped = [
                said.get(group) == (value,) for group, values in self._concepts.groups.items() for value in values
            ]
            rows.append([*grouped, *(word in words for word in self._concepts.words)])
        return np.array(rows, dtype=np.float64)


class ClipEye:
    """Sees in every group the value whose words are nearest to the picture (zero-shot); no absence and no free word.

    Args:
        similarity: how well texts fit pictures.
        concepts: what is looked for.
        say: of a group and a value the text that stands for it.
    """

    name = "CLIP zero-shot"

    def __init__(self, similarity: Similarity, concepts: Concepts, say: Callable[[str, str], str]) -> None:
        self._similarity, self._words = similarity, len(concepts.words)
        self._groups: list[tuple[int, list[int], Tensor | None]] = []
        for group, values in concepts.groups.items():
            places = [place for place, value in enumerate(values) if value != NOTHING]
            texts = [say(group, values[place]) for place in places]
            distinct = len(set(texts)) == len(texts)
            self._groups.append((len(values), places, similarity.texts(texts) if distinct else None))

    def __call__(self, pixels: Tensor) -> np.ndarray:
        """Return what is seen."""
        seen = self._similarity.pictures(pixels.to("cpu", torch.float32))
        columns = []
        for count, places, texts in self._groups:
            found = np.full((len(pixels), count), np.nan)
            if texts is not None:
                nearest = (seen @ texts.T).argmax(1)
                found[:, places] = torch.nn.functional.one_hot(nearest, len(places)).numpy()
            columns.append(found)
        return np.concatenate([*columns, np.full((len(pixels), self._words), np.nan)], 1)


def eye_of(concepts: Concepts, phrases: Phrases, folder: Path | None = None) -> CaptionEye | ClipEye | None:
    """Return the eye that ships: the tiny world's captioner, or its CLIP pair where there is none; None elsewhere.

    Args:
        concepts: what is looked for.
        phrases: how concepts are said.
        folder: where captions are kept; None to write them again every time.
    """
    if not phrases.of_tiny_world:
        return None
    if has_captioner():
        captioner = Captioner(*load_captioner())

        def write(pixels: Tensor) -> list[str]:
            return captioner.write(pixels.to("cpu", torch.float32))

        return CaptionEye(write if folder is None else KeptCaptions(write, folder, captioner.fingerprint()), concepts)
    similarity = Similarity(*load_clip())
    return ClipEye(similarity, concepts, lambda group, value: phrases.say({group: value}, (), 0))
