"""An OpenAI-style endpoint on this machine: what is sent, what is read, and what happens if it is down."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image

from diffexplain_fast.models import endpoint
from diffexplain_fast.models.endpoint import Endpoint, EndpointError
from diffexplain_fast.taxonomy import Taxonomy

ANSWERS: list[tuple[int, bytes]] = []
"""Status and body of the next answers; the last one stays."""
HEARD: list[dict] = []
PICTURE = Image.new("RGB", (4, 3), (200, 0, 0))


class Model(BaseHTTPRequestHandler):
    """Answers as it is told."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        HEARD.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        status, text = ANSWERS.pop(0) if len(ANSWERS) > 1 else ANSWERS[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *text: object) -> None:
        """Print nothing."""


def said(text: object) -> bytes:
    """Return the body of an answer."""
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Return an endpoint whose server runs in this process."""
    monkeypatch.setattr(endpoint, "_WAIT", 0.0)
    server = HTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    HEARD.clear()
    yield Endpoint(f"http://127.0.0.1:{server.server_port}/v1/", "small", key="secret", timeout=5)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_picture_and_a_question_are_sent_and_text_is_read(model: Endpoint) -> None:
    ANSWERS[:] = [(200, said(" a red\n boat ")), (200, said("a blue fish"))]
    assert model.captions([PICTURE, PICTURE]) == ["a red boat", "a blue fish"]
    sent = HEARD[0]
    assert sent["path"] == "/v1/chat/completions" and sent["model"] == "small" and sent["key"] == "Bearer secret"
    data = sent["messages"][0]["content"][1]["image_url"]["url"].partition("base64,")[2]
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)) == (200, 0, 0)
    assert "secret" not in repr(model)


def test_it_proposes_a_taxonomy(model: Endpoint) -> None:
    ANSWERS[:] = [(200, said('Here: {"domain": "", "categories": {"background": ["snow", "sea"]}}'))]
    assert [one.name for one in Taxonomy.propose([PICTURE], model).concepts] == ["background:snow", "background:sea"]


@pytest.mark.parametrize(
    "body", [b"nonsense", b"{}", b"[]", said(None), said("  "), b'{"choices": []}', b"x" * (1 << 21)]
)
def test_nonsense_is_named_after_three_tries(model: Endpoint, body: bytes) -> None:
    ANSWERS[:] = [(200, body)]
    with pytest.raises(EndpointError, match=r"endpoint: wanted an answer of small at .*, got an answer without text"):
        model([PICTURE], "what?")
    assert len(HEARD) == 3


def test_a_failure_keeps_what_is_there(model: Endpoint) -> None:
    ANSWERS[:] = [(200, said("a boat")), (500, b""), (200, said("a fish")), (404, b"")]
    with pytest.raises(EndpointError, match=r"got 404 Not Found; 2 of 3 captions are there") as caught:
        model.captions([PICTURE] * 3)
    assert caught.value.done == ["a boat", "a fish"] and len(HEARD) == 4  # 500 is tried again, 404 is not


def test_an_endpoint_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_WAIT", 0.0)
    with pytest.raises(EndpointError, match=r"got .*refused"):
        Endpoint("http://127.0.0.1:9", "small", timeout=2)([PICTURE], "what?")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="url: wanted an address of http or https"):
        Endpoint("file:///etc/passwd", "small")
    with pytest.raises(TypeError, match="model: wanted text"):
        Endpoint("http://here", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images: wanted PIL images"):
        Endpoint("http://here", "small")(["picture"], "what?")  # type: ignore[list-item]
    with pytest.raises(ValueError, match="timeout: wanted above 0"):
        Endpoint("http://here", "small", timeout=0)
