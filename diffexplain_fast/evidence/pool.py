"""One pool of pictures for every class and classifier: each picture of a caption is drawn once and kept."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from diffexplain_fast.errors import CorruptFileError, NonFiniteError, describe
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.identity import pipeline_identity
from diffexplain_fast.models.conditioning import Conditioning, joined
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import JsonObject
from diffexplain_fast.runs.shared_units import SharedUnits

UNIT = 8
"""Pictures that are drawn in one batch and stored in one file. The number is fixed, because the batch of a picture
decides its last bits: a pool that was interrupted goes on with the same batches."""
_FORMAT = 1
_NO_MATTER = ("backend", "reason", "implementations", "cuda_graphs", "retried_calls")
"""Parts of a sampler's identity that change a picture in its last bits only."""


class Unit(NamedTuple):
    """Pictures that are drawn in one batch.

    Attributes:
        stage: what they are for.
        first: number of the first one in its stage.
        captions: of each.
        soft: token embeddings [n, d] that follow every caption; None for none.
    """

    stage: str
    first: int
    captions: tuple[str, ...]
    soft: Tensor | None


Crew = Callable[[Mapping[str, Unit]], Iterable[tuple[str, bytes]]]
"""From units by their keys to the files of each, in any order."""


class Pool:
    """Pictures in a folder, eight in a PNG file one below the other, which several processes may fill together.

    A file's name says the stage, the number of the unit, and a hash of its captions; what else decides a picture is
    the identity of the folder: the pipeline's weights, its sampler, and the seed.

    Args:
        folder: new, empty, or a pool of the same pipeline, sampler and seed.
        drawing: draws what is missing.

    Attributes:
        crew: draws what is missing elsewhere; None to draw everything here.

    Raises:
        ValueError: the folder is the pool of another pipeline, or holds something else.
        StorageError: the folder cannot be created or written.
    """

    def __init__(self, folder: str | Path, drawing: Drawing) -> None:
        self._drawing = drawing
        self.crew: Crew | None = None
        self._units = SharedUnits(folder, pool_identity(drawing), ".png")
        self.pipeline, self.identity = drawing.pipeline, self._units.identity
        self.drawn = 0
        """Pictures that this object has drawn."""

    def pictures(
        self,
        stage: str,
        captions: Sequence[str],
        first: int,
        last: int,
        report: Callable[[int, int], None] = lambda *_: None,
        soft: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Draw what is missing and yield all pictures, a unit at a time.

        Args:
            stage: what the pictures are for, in small letters, digits and hyphens; stages share no start latents.
            captions: of the whole stage; only the last unit of a stage may have fewer than eight.
            first: number of the first picture, a multiple of eight.
            last: number after the last picture.
            report: receives pictures that are there and pictures that are wanted.
            soft: token embeddings [n, d] that follow every caption; None for none.

        Yields:
            uint8 [up to 8, 3, H, W].

        Raises:
            NonFiniteError: a picture with NaN or infinity; what was drawn before is stored.
            CorruptFileError: a stored file that is damaged; names it.
            StorageError: no space or no permission; what was drawn before is stored.
        """
        units = {}
        for start in range(first, last, UNIT):
            texts = tuple(captions[start : start + UNIT])
            units[_key(stage, start, texts, soft)] = Unit(stage, start, texts, soft)
        self._units.complete(
            list(units),
            lambda key: self._counted(units[key], drawn(self._drawing, units[key])),
            lambda done, total: report(min(first + done * UNIT, last), last),
            None if self.crew is None else lambda missing: self._elsewhere({key: units[key] for key in missing}),
        )
        for key, unit in units.items():
            yield self._read(key, len(unit.captions))[: last - unit.first]

    def blank(self) -> Tensor:
        """Return one black picture, uint8 [1, 3, H, W]."""
        return torch.zeros(1, 3, *self.pipeline.image_size, dtype=torch.uint8)

    def as_pixels(self, levels: Tensor) -> Tensor:
        """Return stored pictures uint8 [B, 3, H, W] as pixels in [0, 1] on the pipeline's device."""
        return levels.to(self._drawing.pipeline.device, self._drawing.pipeline.dtype) / 255

    def _elsewhere(self, units: Mapping[str, Unit]) -> Iterator[tuple[str, bytes]]:
        assert self.crew is not None
        for key, content in self.crew(units):
            yield key, self._counted(units[key], content)

    def _counted(self, unit: Unit, content: bytes) -> bytes:
        self.drawn += len(unit.captions)
        return content

    def _read(self, key: str, pictures: int) -> Tensor:
        path, data = self._units.path(key), self._units.read(key)
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                levels = torch.from_numpy(np.array(image.convert("RGB")))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            wanted = "a PNG image (remove the file, and it is drawn again)"
            raise CorruptFileError(describe(str(path), wanted, error)) from error
        height, width = self._drawing.pipeline.image_size
        if levels.shape != (pictures * height, width, 3):
            wanted = f"{pictures} pictures of {height} x {width}"
            raise CorruptFileError(describe(str(path), wanted, f"{levels.shape[0]} x {levels.shape[1]} pixels"))
        return levels.reshape(pictures, height, width, 3).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def drawn(drawing: Drawing, unit: Unit) -> bytes:
    """Return the pictures of a unit as a PNG file.

    Args:
        drawing: draws them.
        unit: says which.

    Raises:
        NonFiniteError: a picture with NaN or infinity.
    """
    captions, indices = unit.captions, range(unit.first, unit.first + len(unit.captions))
    pixels = drawing.images(_encoded(drawing.pipeline, captions, unit.soft), f"pool/{unit.stage}", indices)
    if not pixels.isfinite().all():
        raise NonFiniteError(f"pictures: wanted finite pictures of {list(captions)}, got NaN or inf")
    levels = pixels.mul(255).round().byte().permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy()
    buffer, about = io.BytesIO(), PngInfo()
    about.add_itxt("captions", "\n".join(captions))
    Image.fromarray(levels).save(buffer, format="PNG", pnginfo=about)
    return buffer.getvalue()


def pool_identity(drawing: Drawing) -> JsonObject:
    """Return everything that decides a pool's pictures beside captions, as JSON values."""
    sampler, pipeline = drawing.sampler, drawing.pipeline
    return {
        "format": _FORMAT,
        "sampler": {key: value for key, value in sampler.identity().items() if _matters(key, value)},
        "seed": drawing.seed,
        **pipeline_identity(
            pipeline, sampler.guidance_scale, schedule=hashlib.sha256(repr(sampler.schedule).encode()).hexdigest()
        ),
    }


def _matters(key: str, value: object) -> bool:
    if key == "gradient":  # only a shortcut changes the pictures
        return str(value).startswith("shortcut")
    return key not in _NO_MATTER


def pool_name(drawing: Drawing) -> str:
    """Return a short name for the pool of a pipeline, sampler and seed, the same in every process."""
    return hashlib.sha256(repr(sorted(pool_identity(drawing).items())).encode()).hexdigest()[:16]


def _encoded(pipeline: Pipeline, captions: Sequence[str], soft: Tensor | None) -> Conditioning:
    if soft is None:
        return pipeline.encode_text(captions)
    tokens = soft.to(pipeline.device)
    return joined([pipeline.encode_soft(tokens, prefix=caption) for caption in captions])


def _key(stage: str, first: int, captions: Sequence[str], soft: Tensor | None) -> str:
    tokens = b"" if soft is None else soft.detach().float().cpu().numpy().tobytes()
    said = hashlib.sha256("\n".join(captions).encode() + tokens).hexdigest()[:12]
    return f"{stage}-{first // UNIT:05d}-{said}"
