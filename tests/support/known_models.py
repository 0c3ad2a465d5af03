"""A gateway whose models are right as often as a test says. What is right stands nowhere in a request."""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LABELS = ("cat", "dog", "bird")


def fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def truth(item: str) -> str:
    """What an item shows."""
    return LABELS[int(fraction("truth", item) * len(LABELS))]


@dataclass
class KnownModels:
    """right: model -> how often it is right. calls: model -> items it was asked, in order."""

    right: Mapping[str, float]
    delay_s: float = 0.0
    base_url: str = ""
    provider_models: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[str]] = field(default_factory=dict)

    def answer(self, model: str, item: str) -> dict[str, object]:
        """Right answers come with a higher confidence, mostly."""
        hit = fraction("hard", item) * 0.7 + fraction(model, item) * 0.3 < self._limit(model)
        label = truth(item)
        if not hit:
            label = LABELS[(LABELS.index(label) + 1 + int(fraction("wrong", model, item) * 2)) % 3]
        sure = (0.75 if hit else 0.45) + 0.25 * fraction("sure", model, item)
        return {"label": label, "confidence": round(sure, 3)}

    def _limit(self, model: str) -> float:
        """Where the sum of both fractions must end for this share of hits."""
        drawn = _sums()
        return drawn[min(len(drawn) - 1, int(self.right[model] * len(drawn)))]


@cache
def _sums() -> list[float]:
    return sorted(0.7 * fraction("a", n) + 0.3 * fraction("b", n) for n in range(4000))


@contextlib.contextmanager
def known_models(right: Mapping[str, float], *, delay_s: float = 0.0) -> Iterator[KnownModels]:
    """Serve until the block ends. The prompt must name its item: `Item i17.`"""
    models = KnownModels(right, delay_s)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            model = json.loads(body)["model"]
            item = re.search(r"Item (\w+)\.", body.decode())[1]
            with lock:
                models.calls.setdefault(model, []).append(item)
            time.sleep(models.delay_s)
            reply = {
                "id": f"resp_{model}_{item}", "object": "completion", "model": model, "status": "completed",
                "created_at": 1767093284,
                "choices": [{"text": json.dumps(models.answer(model, item)), "index": 0}],
                "usage": {"input_tokens": 500, "output_tokens": 20, "total_tokens": 520},
                "meta": {"provider_model": models.provider_models.get(model, model)},
            }  # fmt: skip
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    models.base_url = f"http://127.0.0.1:{server.server_address[1]}/v2"
    try:
        yield models
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def items_csv(folder: Path, count: int, *, with_truth: bool = True) -> Path:
    """A manifest of image URLs, sorted by what they show, so that its order is no random one."""
    names = sorted((f"i{n}" for n in range(count)), key=truth)
    lines = [f"{name},https://media.example/{name}.jpg" + f",{truth(name)}" * with_truth for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "items.csv"
    path.write_text("\n".join(["item_id,media_url" + ",truth" * with_truth, *lines]) + "\n")
    return path
