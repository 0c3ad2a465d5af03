"""A strict OpenAI-compatible server: refuses everything that is not in OpenAI's reference."""

import base64
import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

KEY = "local-key-1"
KNOWN = {
    "model", "messages", "temperature", "max_tokens", "top_p", "frequency_penalty", "presence_penalty", "n",
    "stop", "stream", "seed", "response_format", "top_k",
}  # fmt: skip


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Server:
    """The received requests, and the settings of the server."""

    base_url: str = ""
    models: tuple[str, ...] = ("llava:7b", "tiny")
    throttled_first: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    keys: set[str | None] = field(default_factory=set)

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        require(set(body) <= KNOWN, f"unknown: {set(body) - KNOWN}")
        if body["model"] not in self.models:
            raise Refused(404, "model_not_found", f"The model `{body['model']}` does not exist")
        require(body.get("max_tokens", 1) > 0, "max_tokens")
        prompt, pictures = read(body["messages"])
        text = self.answer(body.get("response_format", {"type": "text"}), pictures)
        choice = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": None,
        }
        usage = {"prompt_tokens": len(prompt) // 4 + 100 * len(pictures), "completion_tokens": 7}
        return {
            "id": f"chatcmpl-{len(self.bodies)}",
            "object": "chat.completion",
            "created": 1767092232,
            "model": body["model"],
            "choices": [{**choice, "index": index} for index in range(body.get("n", 1))],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }

    def answer(self, form: dict[str, Any], pictures: list[Image.Image | str]) -> str:
        if form["type"] == "json_schema":
            require(set(form["json_schema"]) <= {"name", "schema", "strict", "description"}, "json_schema")
            return json.dumps({"label": "cat"})
        return " ".join("linked" if isinstance(one, str) else f"{one.width}x{one.height}" for one in pictures)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Refused(400, "invalid_request_error", message)


def read(messages: list[dict[str, Any]]) -> tuple[str, list[Image.Image | str]]:
    """The texts and the pictures, decoded."""
    texts, pictures = [], []
    for message in messages:
        require(set(message) == {"role", "content"}, "message")
        require(message["role"] in ("system", "user", "assistant"), "role")
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = part.get("type")
            require(set(part) == {"type", kind} and kind in ("text", "image_url"), f"part {part}"[:200])
            texts.append(part["text"]) if kind == "text" else pictures.append(picture(part["image_url"]))
    return "".join(texts), pictures


def picture(image_url: dict[str, Any]) -> Image.Image | str:
    require(set(image_url) <= {"url", "detail"}, "image_url")
    url = image_url["url"]
    if url.startswith("https://"):
        return url
    head, _, text = url.partition(";base64,")
    require(head in ("data:image/jpeg", "data:image/png"), head[:40])
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


@contextlib.contextmanager
def openai_server(**settings: Any) -> Iterator[Server]:
    """The server at {base_url}/chat/completions, for the key KEY."""
    state = Server(**settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            state.paths.add(self.path)
            state.keys.add(self.headers["Authorization"])
            try:
                status, reply = 200, self._answer(raw)
            except Refused as refused:
                state.refused.append(f"{refused.status} {refused}")
                error = {"message": str(refused), "type": "invalid_request_error", "code": refused.code}
                status, reply = refused.status, {"error": error}
            body = json.dumps(reply).encode()
            self.send_response(status)
            for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        def _answer(self, raw: bytes) -> dict[str, Any]:
            if self.path != "/v1/chat/completions":
                raise Refused(404, "not_found", self.path)
            if self.headers["Authorization"] != f"Bearer {KEY}":
                raise Refused(401, "invalid_api_key", "Incorrect API key provided")
            if state.throttled_first > 0:
                state.throttled_first -= 1
                raise Refused(429, "rate_limit_exceeded", "Rate limit reached")
            body = json.loads(raw)
            state.bodies.append(body)
            return state.reply(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
