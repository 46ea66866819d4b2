"""What all pages share: templates that escape what they show, pictures inside the file, and one script by its hash."""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup, escape
from PIL import Image, features

from diffexplain_fast.given_files import given_path
from diffexplain_fast.number_texts import (
    effect_text,
    effect_texts,
    interval_texts,
    output_text,
    points_text,
    share_text,
)
from diffexplain_fast.report.glossary import GLOSSARY
from diffexplain_fast.storage import write_bytes_atomic

_TEMPLATES = Path(__file__).parent / "templates"
_SIDES = (512, 384, 256, 192, 128, 96, 64)
"""Largest sides in pixels to which the pictures of a section may be scaled down, the best first."""
_EXACT_SIDE = 128
"""Pictures that were never larger than this are stored without loss."""
SECTION_BYTES = 320_000
"""Bytes that the pictures of one section may have in the file, so that eight sections stay under 3 MB."""
_PAGE_BYTES = 6_000_000
"""Bytes that the pictures of all sections of a page may have together, so that the page stays under 10 MB."""


class Inlined(NamedTuple):
    """A picture inside the page: its data as an address, and its size in pixels."""

    source: str
    width: int
    height: int


def load_template(name: str) -> Template:
    """Return a template of this folder; it escapes all values that it shows.

    Args:
        name: name of its file.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    texts = (effect_text, effect_texts, interval_texts, output_text, points_text, share_text)
    environment.filters["breakable"] = breakable
    environment.filters["unbroken"] = lambda text: text.replace(" ", "\N{NO-BREAK SPACE}")
    environment.globals.update({text.__name__: text for text in texts})
    return environment.get_template(name)


def write_page(name: str, path: str | Path, title: str, terms: Sequence[str] = (), **values: object) -> Path:
    """Write a page whose template extends ``page.html``.

    Args:
        name: file of the template.
        path: the file; its folder is created if it does not exist.
        title: heading of the page.
        terms: keys of ``GLOSSARY`` that the page explains.
        **values: further values that the template shows.

    Returns:
        The file.

    Raises:
        TypeError: a file that is no path.
        StorageError: no space or no permission.
    """
    place = given_path("path", path)
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"title": title, "script": Markup(script), "script_hash": digest}
    page = load_template(name).render(shared, glossary={term: GLOSSARY[term] for term in terms}, **values)
    write_bytes_atomic(place, page.encode(errors="backslashreplace"))  # a label may hold half a surrogate pair
    return place


def section_bytes(sections: int) -> int:
    """Return how many bytes the pictures of each section may have, so that all together keep within those of a page.

    Args:
        sections: number of sections with pictures.
    """
    return min(SECTION_BYTES, _PAGE_BYTES // max(sections, 1))


def breakable(name: object) -> Markup:
    """Return a name, escaped, that breaks after ":" and "_" before it breaks within a word."""
    return Markup(re.sub("([:_])(?=.)", r"\1<wbr>", str(escape(name))))


def inline_pictures(images: Sequence[Image.Image], limit: int = SECTION_BYTES) -> list[Inlined]:
    """Return pictures as addresses of data, scaled down until all together have at most ``limit`` bytes.

    Args:
        images: the pictures of one section.
        limit: bytes; the smallest size is taken if none keeps within it.
    """
    inlined: list[Inlined] = []
    for side in _SIDES:
        inlined = [_inline(image, side) for image in images]
        if sum(len(picture.source) for picture in inlined) <= limit:
            break
    return inlined


def _inline(image: Image.Image, side: int) -> Inlined:
    exact = max(image.size) <= _EXACT_SIDE
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer, kind = io.BytesIO(), "webp" if features.check("webp") else "png"
    small.save(buffer, format=kind, **({"lossless": exact, "quality": 80} if kind == "webp" else {"optimize": True}))
    data = base64.b64encode(buffer.getvalue()).decode()
    return Inlined(f"data:image/{kind};base64,{data}", *small.size)
