"""A vision-language model behind an OpenAI-style endpoint, local or remote: pictures and a question in, text out."""

import base64
import io
import json
import time
from collections.abc import Sequence
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from PIL import Image

from diffexplain_fast.errors import describe, wrong_type, wrong_value

CAPTION = "Describe the picture in one short sentence of plain words: things, colours, textures and background."
_TRIES, _WAIT, _MOST_BYTES = 3, 0.2, 1 << 20


class EndpointError(OSError):
    """An endpoint that is down or answers nonsense.

    Attributes:
        done: captions that were there before.
    """

    def __init__(self, message: str, done: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.done = list(done)


class Endpoint:
    """A model behind ``URL/chat/completions``, as servers of local models and services have it.

    Nothing but the pictures and the question is sent, and only text is taken from the answer.

    Args:
        url: such as "http://localhost:8000/v1".
        model: its name there.
        key: sent as a bearer token; None for none.
        timeout: seconds of one call.

    Raises:
        TypeError: an argument of another kind.
        ValueError: a URL that is neither http nor https, or a timeout that is not above 0.
    """

    def __init__(self, url: str, model: str, key: str | None = None, timeout: float = 60.0) -> None:
        for name, value in (("url", url), ("model", model)):
            if not isinstance(value, str):
                raise wrong_type(name, "text", value)
        if urlparse(url).scheme not in ("http", "https") or not urlparse(url).netloc:
            raise wrong_value("url", "an address of http or https", url)
        if not timeout > 0:
            raise wrong_value("timeout", "above 0", timeout)
        self.url, self.model, self.timeout = url.rstrip("/"), model, timeout
        self._key = key

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.model!r})"  # without the key

    def __call__(self, images: Sequence[Image.Image], question: str) -> str:
        """Return the answer to a question about pictures; what ``Taxonomy.propose`` takes as its model.

        Args:
            images: PIL images.
            question: text.

        Raises:
            TypeError: images of another kind.
            EndpointError: no answer in three tries, or one without text.
        """
        parts: list[dict[str, object]] = [{"type": "text", "text": question}]
        parts += [{"type": "image_url", "image_url": {"url": _as_url(image)}} for image in images]
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": parts}]}
        problem: object = None
        for number in range(_TRIES):
            if number:
                time.sleep(_WAIT * 2**number)
            try:
                return self._answer(json.dumps(body).encode())
            except HTTPError as error:
                problem = f"{error.code} {error.reason}"
                if error.code < 500:  # the same call would fail again
                    break
            except (URLError, TimeoutError, ConnectionError) as error:
                problem = getattr(error, "reason", error)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                problem = f"an answer without text ({type(error).__name__})"
        raise EndpointError(describe("endpoint", f"an answer of {self.model} at {self.url}", problem))

    def captions(self, images: Sequence[Image.Image], question: str = CAPTION) -> list[str]:
        """Return a caption of each picture; for ``Explainer.candidates``.

        Args:
            images: PIL images.
            question: what is asked about each.

        Raises:
            EndpointError: as a call; ``done`` holds the captions of the pictures before.
        """
        found: list[str] = []
        for image in images:
            try:
                found.append(" ".join(self([image], question).split()))
            except EndpointError as error:
                raise EndpointError(f"{error}; {len(found)} of {len(images)} captions are there", found) from error
        return found

    def _answer(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = Request(f"{self.url}/chat/completions", body, headers)
        with urlopen(request, timeout=self.timeout) as answer:
            data = answer.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError("too long")
        text = json.loads(data)["choices"][0]["message"]["content"]
        if not isinstance(text, str) or not text.strip():
            raise ValueError("no text")
        return text


def _as_url(image: object) -> str:
    if not isinstance(image, Image.Image):
        raise wrong_type("images", "PIL images", image)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
