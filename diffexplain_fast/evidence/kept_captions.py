"""What a captioner wrote of pictures, kept in a folder: pictures of a pool are the same for every classifier."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from diffexplain_fast.errors import CorruptFileError, StorageError
from diffexplain_fast.storage import read_json, write_json_atomic


class KeptCaptions:
    """Writes captions once for each batch of pictures.

    A file that cannot be read is written again, and one that cannot be written is not kept: nothing is lost but time.

    Args:
        write: of pixels [B, 3, H, W] in [0, 1] a text for each.
        folder: of the files, one for each batch.
        writer: identity of the captioner.
    """

    def __init__(self, write: Callable[[Tensor], list[str]], folder: Path, writer: str) -> None:
        self._write, self._folder, self._writer = write, folder, writer

    def __call__(self, pixels: Tensor) -> list[str]:
        """Return a text for each picture of pixels [B, 3, H, W]."""
        about = f"{self._writer} {tuple(pixels.shape)} {pixels.dtype}".encode()
        levels = pixels.detach().double().cpu().contiguous().numpy().tobytes()
        path = self._folder / f"{hashlib.sha256(about + levels).hexdigest()[:32]}.json"
        known = _read(path, len(pixels))
        if known is not None:
            return known
        texts = self._write(pixels)
        with suppress(StorageError):
            write_json_atomic(path, texts)
        return texts


def _read(path: Path, count: int) -> list[str] | None:
    try:
        texts = read_json(path)
    except (CorruptFileError, OSError):
        return None
    if not isinstance(texts, list) or len(texts) != count or not all(isinstance(text, str) for text in texts):
        return None
    return texts
