"""Pictures of results as PNG files."""

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.storage import confined


def png_bytes(image: Image.Image) -> bytes:
    """Return the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def read_png(folder: str | Path, name: str, files: Mapping[str, bytes]) -> Image.Image:
    """Return a picture of a saved result.

    Args:
        folder: the result, for the message.
        name: path of the picture inside the folder.
        files: content of all files of the result, by path.

    Raises:
        CorruptFileError: no such file, or not a PNG image.
        UnsafeFileError: the path leaves the folder.
    """
    path = confined(folder, name)
    if name not in files:
        raise CorruptFileError(describe(str(path), "an image that the manifest names", "none"))
    try:
        with Image.open(io.BytesIO(files[name]), formats=["PNG"]) as image:
            image.load()
            return image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptFileError(describe(str(path), "a PNG image", error)) from error
