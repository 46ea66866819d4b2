"""Endpoints: a local server that speaks chat completions receives pictures and question, and nothing else happens."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast import endpoints

_BROKEN = b"zz\r\nno chunk"
"""An answer in chunks that are none."""
TREE = {"domain": "faces", "categories": {"hat": ["fedora", "beret"]}}


class Service(ThreadingHTTPServer):
    """Answers each request with the next of some answers, and keeps what it was sent."""

    def __init__(self, answers: list[tuple[int, object]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.seen, self.headers = answers, [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, json.loads(body)))
        self.server.headers.append(dict(self.headers))
        status, answer = self.server.answers.pop(0)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if answer is _BROKEN:
            self.send_header("Transfer-Encoding", "chunked")
        if status in (301, 302, 307):
            self.send_header("Location", f"{self.server.url}/elsewhere")
        if status == 429:
            self.send_header("Retry-After", answer["wait"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def log_message(self, *given: object) -> None:
        """Print nothing."""


def says(text: object) -> tuple[int, object]:
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.fixture
def serve() -> Iterator[Any]:
    running = []

    def start(*answers: tuple[int, object]) -> Service:
        running.append(Service(list(answers)))
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return running[-1]

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def test_a_taxonomy_is_proposed_by_a_model_behind_an_address(serve) -> None:
    service = serve(says("I see hats."), says(f"```json\n{json.dumps(TREE)}\n```"))
    picture = Image.new("RGBA", (5, 7), (255, 0, 0, 255))
    model = dx.Endpoint(service.url, "llava", key="secret")
    found = dx.Taxonomy.propose([picture, torch.zeros(3, 4, 6)], model)
    assert found == dx.Taxonomy.from_json(TREE)
    assert [path for path, _ in service.seen] == ["/v1/chat/completions"] * 2
    body = service.seen[0][1]
    assert body["model"] == "llava"
    text, *images = body["messages"][0]["content"]
    assert "JSON" in text["text"]
    data = [one["image_url"]["url"].removeprefix("data:image/png;base64,") for one in images]
    sent = [Image.open(io.BytesIO(base64.b64decode(one))) for one in data]
    assert [one.size for one in sent] == [(5, 7), (6, 4)] and sent[0].getpixel((0, 0)) == (255, 0, 0)
    assert service.headers[0]["Authorization"] == "Bearer secret"


def test_the_key_is_never_shown_and_stays_at_home(serve) -> None:
    assert "secret" not in repr(dx.Endpoint("http://localhost", "m", key="secret"))
    for status in (301, 302, 307):
        service = serve((status, {}), says("stolen"))
        with pytest.raises(ConnectionError, match=f"status {status}") as error:
            dx.Endpoint(service.url, "m", key="secret")([], "?")
        assert len(service.seen) == 1 and "secret" not in str(error.value)
    assert "Authorization" not in _headers_without_key(serve)


def _headers_without_key(serve) -> dict:
    service = serve(says("yes"))
    assert dx.Endpoint(f"{service.url}/", "m")([], "?") == "yes"
    assert service.seen[0][0] == "/v1/chat/completions"
    return service.headers[0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, {"error": "out of memory"}), "status 500: .*out of memory"),
        ((401, {}), "status 401"),
        ((200, b"<html>"), "<html>"),
        ((200, {"choices": []}), "choices"),
        ((200, [1]), "1"),
        (says(None), "null"),
        (says([{"type": "text"}]), "text"),
        (says("  "), "content"),
    ],
)
def test_what_is_no_answer_is_named(serve, answer: tuple[int, object], message: str) -> None:
    service = serve(answer)
    with pytest.raises(ConnectionError, match=f"endpoint: wanted an answer of chat completions from http.*{message}"):
        dx.Endpoint(service.url, "m")([Image.new("RGB", (2, 2))], "?")


def test_a_service_that_is_not_there_or_does_not_answer_is_named(serve) -> None:
    service = serve()
    url = service.url
    service.shutdown()
    service.server_close()
    with pytest.raises(ConnectionError, match="endpoint"):
        dx.Endpoint(url, "m", timeout=5)([], "?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "file:///etc/passwd"}, "url: wanted an address of http or https"),
        ({"url": "localhost:8000"}, "url: wanted"),
        ({"url": 3}, "url: wanted text"),
        ({"url": "http://[::1"}, "url: wanted an address.*cannot be read"),
        ({"url": "http://localhost:port"}, "url: wanted an address.*cannot be read"),
        ({"url": f"http://{'a' * 64}.org"}, "url: wanted an address.*cannot be read"),
        ({"url": "http://.../v1"}, "url: wanted an address.*cannot be read"),
        ({"url": "http://localhost/v1?version=1"}, "url: wanted an address.*without a query"),
        ({"url": "http://localhost/\N{LATIN SMALL LETTER U WITH DIAERESIS}"}, "url: wanted an address.*ASCII"),
        ({"url": "http://local host/v1"}, "url: wanted an address.*ASCII"),
        ({"model": ""}, "model: wanted the name"),
        ({"key": 3}, "key: wanted text"),
        ({"key": "a\nb"}, "key: wanted letters"),
        ({"timeout": 0}, "timeout: wanted"),
        ({"timeout": "x"}, "timeout: wanted"),
        ({"timeout": float("nan")}, "timeout: wanted"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_said(options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        dx.Endpoint(**{"url": "http://localhost", "model": "m", **options})
    with pytest.raises(TypeError, match="images: wanted PIL images"):
        dx.Endpoint("http://localhost", "m")(["picture"], "?")


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match=r"url: wanted .* without a user.*, got a user of localhost") as error:
        dx.Endpoint("http://me:secret@localhost/v1", "m")
    assert "secret" not in str(error.value)


def test_captions_are_in_one_line_each_and_a_failure_keeps_them(serve, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "_WAIT", 0.0)
    service = serve(says(" a red\n boat "), (500, {}), says("a fish"), (404, {}))
    with pytest.raises(endpoints.EndpointError, match=r"status 404.*; 2 of 3 captions are there") as caught:
        dx.Endpoint(service.url, "m").captions([Image.new("RGB", (2, 2))] * 3)
    assert caught.value.done == ["a red boat", "a fish"] and not caught.value.passing
    assert len(service.seen) == 4  # 500 is tried again, 404 is not


def test_an_error_whose_text_breaks_off_is_an_error_of_the_service_all_the_same(serve, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "_WAIT", 0.0)
    service = serve(says("a boat"), *[(503, _BROKEN)] * 3)
    with pytest.raises(endpoints.EndpointError, match=r"status 503: ''; 1 of 2 captions are there") as caught:
        dx.Endpoint(service.url, "m").captions([Image.new("RGB", (2, 2))] * 2)
    assert caught.value.done == ["a boat"] and caught.value.passing and len(service.seen) == 4


def test_a_service_that_has_no_time_is_asked_again_when_it_wants_to_be(serve, monkeypatch) -> None:
    waited = []
    monkeypatch.setattr(endpoints.time, "sleep", waited.append)
    later = "Wed, 21 Oct 2026 07:28:00 GMT"
    service = serve(
        *[(429, {"wait": wait}) for wait in ("7", "3600")], says("a boat"), (429, {"wait": later}), (408, {})
    )
    service.answers.append(says("a fish"))
    assert dx.Endpoint(service.url, "m").captions([Image.new("RGB", (2, 2))] * 2) == ["a boat", "a fish"]
    assert waited == [7.0, 30.0, 0.2, 0.4] and len(service.seen) == 6


def test_a_service_that_keeps_failing_is_asked_three_times(serve, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "_WAIT", 0.0)
    service = serve((503, {}), (503, {}), (503, {}), says("late"))
    with pytest.raises(endpoints.EndpointError, match="status 503") as caught:
        dx.Endpoint(service.url, "m").captions([Image.new("RGB", (2, 2))])
    assert caught.value.passing and len(service.seen) == 3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (Image.new("RGB", (2, 2)), "a list of PIL images.*, got Image"),
        (None, "a list of PIL images.*, got NoneType"),
        ("ab", "a list of PIL images.*, got str"),
        (torch.rand(3, 2, 2), "got Tensor"),
        ([torch.full((3, 2, 2), 200.0)], r"in \[0, 1\], got 200 to 200"),
        ([torch.full((3, 2, 2), float("nan"))], r"in \[0, 1\], got nan to nan"),
        ([torch.zeros(3, 2, 2, dtype=torch.uint8)], "floating point pixels.*, got torch.uint8"),
        ([torch.zeros(3, 0, 2)], r"got \[3, 0, 2\]"),
        ([Image.new("RGB", (0, 2))], "at least one pixel, got 0 x 2"),
    ],
)
def test_pictures_that_would_arrive_white_or_not_at_all_are_refused(images: Any, message: str) -> None:
    model = dx.Endpoint("http://localhost", "m")
    for ask in (lambda: model(images, "?"), lambda: model.captions(images)):
        with pytest.raises((TypeError, ValueError), match=f"images: wanted .*{message}"):
            ask()


def test_a_question_that_is_no_text_is_refused() -> None:
    for question in (b"what?", None):
        with pytest.raises(TypeError, match="question: wanted text, got"):
            dx.Endpoint("http://localhost", "m").captions([], question)


def test_a_picture_of_another_kind_is_refused_before_the_service_is_paid_for_the_others(serve) -> None:
    service = serve(says("a boat"))
    with pytest.raises(TypeError, match="images: wanted PIL images"):
        dx.Endpoint(service.url, "m").captions([Image.new("RGB", (2, 2)), "boat.png"])
    assert not service.seen
    assert dx.Endpoint(service.url, "m").captions(image for image in [Image.new("RGB", (2, 2))]) == ["a boat"]
