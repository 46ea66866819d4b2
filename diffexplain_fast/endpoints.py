"""A vision-language model behind an address: pictures and a question go there, its answer comes back as text."""

import base64
import io
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO

import torch
from PIL import Image

from diffexplain_fast.coloured import check_range, in_colour, reading
from diffexplain_fast.errors import describe, wrong_type, wrong_value

_LARGEST = 16 * 2**20
"""Bytes of an answer that are read at most."""
_SHOWN = 200
CAPTION = "Describe the picture in one short sentence of plain words: things, colours, textures and background."
_TRIES, _WAIT, _LONGEST = 3, 0.2, 30.0
_BUSY = (408, 425, 429)
"""Statuses of a service that has no time now."""
_PICTURES = "PIL images, or pixels [3, H, W] in [0, 1]"


class EndpointError(ConnectionError):
    """A service that cannot be reached, or answers in another form.

    Attributes:
        passing: whether the same call may succeed later: nobody was there, or the service itself had failed.
        done: captions that were there before.
        wait: seconds after which the service wants to be asked again, None where it says nothing of it.
    """

    def __init__(
        self, message: str, passing: bool = False, done: Sequence[str] = (), wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.passing, self.done, self.wait = passing, list(done), wait


@dataclass(frozen=True)
class Endpoint:
    """A model that answers as OpenAI's chat completions do, on this machine or elsewhere.

    Pictures leave the machine where the address is another one's.

    Args:
        url: address of the service up to its version, such as "http://localhost:8000/v1".
        model: name of the model there.
        key: is sent as a bearer token, and never shown; None for none.
        timeout: seconds to wait for the service at each step, above 0.

    Raises:
        TypeError: an argument of another kind.
        ValueError: an address that is not of http or https, or has a query, a user's name, or letters that no address
            has; an empty name, or a timeout that is not above 0.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0

    def __post_init__(self) -> None:
        for name in ("url", "model"):
            if not isinstance(getattr(self, name), str):
                raise wrong_type(name, "text", getattr(self, name))
        _check_url(self.url)
        if not self.model:
            raise wrong_value("model", "the name of a model", repr(self.model))
        if self.key is not None and not isinstance(self.key, str):
            raise wrong_type("key", "text, or None", self.key)
        if self.key is not None and (not self.key.isascii() or not self.key.isprintable()):
            raise wrong_value("key", "letters and digits as a header can hold them", "other ones")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float):
            raise wrong_type("timeout", "a number of seconds", self.timeout)
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise wrong_value("timeout", "a number of seconds above 0", self.timeout)

    def __call__(self, images: Sequence[object], question: str) -> str:
        """Return the model's answer to a question about pictures.

        Args:
            images: PIL images, or pixels [3, H, W] in [0, 1] each.
            question: text.

        Raises:
            TypeError: a picture of another kind, or a question that is no text.
            ValueError: pixels out of [0, 1], an empty picture, or one that cannot be read.
            EndpointError: the service cannot be reached, refuses, sends elsewhere, or answers in another form.
        """
        check_question(question)
        parts: list[dict[str, object]] = [{"type": "text", "text": question}]
        parts += [{"type": "image_url", "image_url": {"url": _as_url(image)}} for image in pictures_of(images)]
        body = {"model": self.model, "messages": [{"role": "user", "content": parts}]}
        headers = {"Content-Type": "application/json"}
        headers |= {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.build_opener(_Stay).open(request, timeout=self.timeout) as response:
                answer = response.read(_LARGEST + 1)
        except urllib.error.HTTPError as error:
            passing, wait = error.code >= 500 or error.code in _BUSY, error.headers.get("Retry-After", "")
            said = f"status {error.code}: {_said(error)!r}"
            raise self._failed(said, passing, float(wait) if wait.isdecimal() else None) from error
        except (OSError, HTTPException) as error:
            raise self._failed(getattr(error, "reason", None) or error, passing=True) from error
        return self._text(answer)

    def captions(self, images: Sequence[object], question: str = CAPTION) -> list[str]:
        """Return a caption of each picture, in one line; for ``Explainer.candidates``.

        A service that has failed is asked again, three times in all, after the time that it asks for, at most half a
        minute.

        Args:
            images: PIL images, or pixels [3, H, W] in [0, 1] each.
            question: what is asked about each picture.

        Raises:
            TypeError: a picture of another kind, or a question that is no text; before anything is asked.
            ValueError: pixels out of [0, 1], or an empty picture; before anything is asked.
            EndpointError: as a call; ``done`` holds the captions of the pictures before.
        """
        found: list[str] = []
        pictures = pictures_of(images)
        check_question(question)
        for image in pictures:
            try:
                found.append(" ".join(self._patiently([image], question).split()))
            except EndpointError as error:
                message = f"{error}; {len(found)} of {len(pictures)} captions are there"
                raise EndpointError(message, error.passing, found) from error
        return found

    def _patiently(self, images: Sequence[object], question: str) -> str:
        """Return the answer of a call; one that fails in passing is repeated."""
        for number in range(_TRIES - 1):
            try:
                return self(images, question)
            except EndpointError as error:
                if not error.passing:
                    raise
                wait = _WAIT * 2**number if error.wait is None else min(error.wait, _LONGEST)
            time.sleep(wait)
        return self(images, question)

    def _text(self, answer: bytes) -> str:
        if len(answer) > _LARGEST:
            raise self._failed(f"more than {_LARGEST} bytes")
        try:
            text = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise self._failed(repr(answer[:_SHOWN])) from error
        if not isinstance(text, str) or not text.strip():
            raise self._failed(repr(answer[:_SHOWN]))
        return text

    def _failed(self, got: object, passing: bool = False, wait: float | None = None) -> EndpointError:
        wanted = f"an answer of chat completions from {self.url}"
        return EndpointError(describe("endpoint", wanted, got), passing, wait=wait)


def _check_url(url: str) -> None:
    """Raise a ValueError for what no request can be sent to; a password in it is not shown."""
    wanted = "an address of http or https"
    try:
        parts = urllib.parse.urlsplit(url)
        named = parts.hostname or ""
        host, _ = named.encode("idna"), parts.port
    except ValueError as error:
        raise wrong_value("url", wanted, f"one that cannot be read: {error}") from error
    if parts.username is not None:
        raise wrong_value("url", f"{wanted} without a user, because key= is sent", f"a user of {named}")
    if parts.scheme not in ("http", "https") or not host:
        raise wrong_value("url", wanted, repr(url))
    if parts.query or parts.fragment:
        raise wrong_value("url", f"{wanted} up to its version, without a query", repr(url))
    if not url.isascii() or not url.isprintable() or " " in url:
        raise wrong_value("url", f"{wanted} in letters of ASCII, without spaces", ascii(url))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, which would carry pictures and key to another address."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Return None: the status is an error then."""


def _said(error: urllib.error.HTTPError) -> str:
    """Return the beginning of what a service says of an error; "" where that never comes, because the status counts."""
    try:
        with error:
            return error.read(_SHOWN).decode(errors="replace")
    except (OSError, HTTPException):
        return ""


def check_question(question: object) -> None:
    """Raise a TypeError for a question that is no text."""
    if not isinstance(question, str):
        raise wrong_type("question", "text", question)


def pictures_of(images: object) -> list[Image.Image]:
    """Return pictures that a model is asked about as PIL images in colour.

    Args:
        images: an iterable of PIL images, or of pixels [3, H, W] in [0, 1].

    Raises:
        TypeError: something else.
        ValueError: pixels out of [0, 1], or an empty picture.
    """
    if isinstance(images, str | bytes) or not isinstance(images, Iterable):
        raise wrong_type("images", f"a list of {_PICTURES}", images)
    return [picture_of(image, number) for number, image in enumerate(images)]


def picture_of(image: object, number: int | None = None) -> Image.Image:
    """Return a PIL image, or pixels [3, H, W] in [0, 1], as a PIL image in colour; see ``pictures_of``.

    Args:
        image: see ``pictures_of``.
        number: of the picture in a message, None for the only one.
    """
    if isinstance(image, torch.Tensor) and image.ndim == 3 and len(image) == 3:
        if not image.is_floating_point():
            raise wrong_value("images", "floating point pixels in [0, 1]", image.dtype)
        wanted = "pixels [3, H, W] in [0, 1]"
        if not image.numel():
            raise wrong_value("images", wanted, list(image.shape))
        check_range("images", wanted, image)
        values = (image.detach().float() * 255).round().byte().permute(1, 2, 0)
        return Image.fromarray(values.cpu().numpy())
    if not isinstance(image, Image.Image):
        raise wrong_type("images", _PICTURES, image)
    with reading("images", image, number):
        return in_colour(image)


def _as_url(picture: Image.Image) -> str:
    """Return a picture as a data URL of PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
