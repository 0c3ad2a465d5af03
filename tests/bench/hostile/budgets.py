"""Gateways that bill more than they say, or otherwise than the estimates expect; media larger than expected.

Two promises: whatever the size of a media and however a reply is lost, a budget is not exceeded while the
gateway bills by its models' published rules; and a gateway that bills by other rules is found out by its
first calls: at most `FIRST_CALLS` of them may cost more than was held back.
"""

import contextlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mavi_tasks.execution.local import execute
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.job import job_of
from mavi_tasks.limits.budget import FIRST_CALLS
from mavi_tasks.sandbox import Sandbox
from mavi_tasks.sandbox.ledger import PRICES
from tests.bench.hostile.case import Case
from tests.support.gateways import KEY, rows

FLASH = "gemini:gemini-2.5-flash"
IN_USD, OUT_USD = Decimal("0.30") / 10**6, Decimal("2.50") / 10**6
CALLS_AT_ONCE = 200
SNAPSHOT = re.compile(r"-\d\d-?\d{2,4}\b|latest")


def run(folder: Path, base_url: str, urls: list[str], budget: str | None, **fields: Any) -> RunReport:
    """Ask about these URLs, many at once."""
    manifest = folder / "items.csv"
    manifest.write_text("media_url\n" + "".join(f"{url}\n" for url in urls))
    job = job_of(
        manifest=str(manifest),
        output=str(folder / "out"),
        budget_usd=budget,
        **{
            "prompts": {"p": "What is it?"},
            "models": [FLASH],
            "params": {"max_tokens": 20},
            "gateway": {"name": "sandbox", "base_url": base_url},
            "limits": {"*": {"concurrency": CALLS_AT_ONCE}},
            "retry": {"base_s": 0.001, "cap_s": 0.002, "attempts": 2},
            **fields,
        },
    )
    return execute(job, {"MAVI_API_KEY": KEY})


def pictures(size: str, count: int = 400) -> list[str]:
    return [f"https://media.example/{size}/{n}.jpg" for n in range(count)]


# -- media of any size, billed by the models' own rules


def unknown_media(urls: list[str], model: str, budget: str, folder: Path) -> str | None:
    """The sandbox bills by the true size, which the URL states to it alone."""
    with Sandbox(latency_s=0) as sandbox:
        report = run(folder, sandbox.base_url, urls, budget, models=[model])
        billed = Decimal(sandbox.bill()["total_usd"])
    if billed > Decimal(budget):
        return f"${billed} billed of ${budget}"
    if report.stop_reason == "budget" and billed < Decimal(budget) / 4:
        return f"only ${billed} of ${budget} could be used"
    return None


def media_cases() -> Iterator[Case]:
    for family in ("gemini", "qwen", "nova", "gpt"):
        for name in PRICES[family]:
            if SNAPSHOT.search(name):  # of a model that is tried under its own name
                continue
            model = f"{family}:{name}"
            dear = max(Decimal(tier[1]) for tier in PRICES[family][name])
            for size in ("7900x7900", "8000x300"):
                budget = str(round(dear * Decimal("0.4"), 6))
                attempt = partial(unknown_media, pictures(size, 150), model, budget)
                yield Case(f"{model}, pictures of {size}", attempt)
            if family != "gpt":
                films = [f"https://media.example/1920x1080/590s/{n}.mp4" for n in range(60)]
                budget = str(dear * 4)
                yield Case(f"{model}, films of 10 minutes", partial(unknown_media, films, model, budget))


# -- gateways that bill otherwise

Usage = Mapping[str, Any] | None
Liar = Callable[[int, Mapping[str, Any]], tuple[int, int, Usage, str]]


@contextlib.contextmanager
def liar(says: Liar) -> Iterator[tuple[str, Callable[[], Decimal]]]:
    """A gateway that bills as it likes: its base URL, and what it has billed. `says`: call number and body ->
    tokens billed in and out, the usage that it states, the text."""
    numbers, bills = itertools.count(), list[Decimal]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inputs, outputs, usage, text = says(next(numbers), body)
            bills.append(inputs * IN_USD + outputs * OUT_USD)
            reply = {"status": "completed", "choices": [{"text": text, "index": 0}], "usage": usage}
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v2", lambda: sum(bills, Decimal(0))
    finally:
        server.shutdown()
        server.server_close()


def within(says: Liar, budget: str, allowed: Decimal, fields: Mapping[str, Any], folder: Path) -> str | None:
    """None when what was billed is at most the budget and `allowed` more, and the run knows of all of it."""
    with liar(says) as (base_url, billed):
        report = run(folder, base_url, pictures("640x480", 300), budget, **fields)
        spent = billed()
    if spent > Decimal(budget) + allowed:
        return f"${spent} billed of ${budget}, with ${allowed} allowed for the first calls"
    known = Decimal(report.cost_pico + report.exposure_pico).scaleb(-12)
    return None if known >= spent else f"${spent} billed, ${known} known"


def stated(inputs: int, outputs: int) -> dict[str, int]:
    return {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}


def honest(inputs: int, outputs: int, text: str = "a cat") -> Liar:
    return lambda number, body: (inputs, outputs, stated(inputs, outputs), text)


def silent(usage: Usage, text: str, share: float) -> Liar:
    """Bills what is allowed, and of some replies says nothing that can be counted."""

    def says(number: int, body: Mapping[str, Any]) -> tuple[int, int, Usage, str]:
        quiet = number % 100 < share * 100
        return 500, 20, usage if quiet else stated(500, 20), text if quiet else "a cat"

    return says


def token_a_byte(number: int, body: Mapping[str, Any]) -> tuple[int, int, Usage, str]:
    texts = [
        part["text"] if isinstance(part, dict) else part
        for message in body["messages"]
        for part in ([message["content"]] if isinstance(message["content"], str) else message["content"])
        if isinstance(part, str) or "text" in part
    ]
    inputs = sum(len(text.encode()) for text in texts) + 258
    return inputs, 20, stated(inputs, 20), "a cat"


NOTHING = Decimal(0)
NOT_COUNTS: Mapping[str, Usage] = {
    "no usage": None,
    "an empty usage": {},
    "input tokens only": {"input_tokens": 500},
    "output tokens only": {"output_tokens": 20},
    "text for counts": {"input_tokens": "500", "output_tokens": "20"},
    "fractions for counts": {"input_tokens": 500.5, "output_tokens": 20.5},
    "negative counts": {"input_tokens": -500, "output_tokens": -20},
    "counts beyond any model": {"input_tokens": 10**30, "output_tokens": 10**30},
    "true for counts": {"input_tokens": True, "output_tokens": True},
}
SMALL = {"media": {"max_url_image_px": 768}}


def liar_cases() -> Iterator[Case]:
    for what, usage in NOT_COUNTS.items():
        for text, share in (("a cat", 1.0), ("", 1.0), ("", 0.3)):
            name = f"{what}, {'empty' if not text else 'a'} text, {share:.0%} of replies"
            yield Case(name, partial(within, silent(usage, text, share), "0.02", NOTHING, SMALL))
    for times in (2, 10, 100):
        inputs, outputs = times * 1000, times * 20
        over = FIRST_CALLS * (inputs * IN_USD + outputs * OUT_USD)
        yield Case(
            f"pictures billed {times} times as large",
            partial(within, honest(inputs, 20), "0.05", over, SMALL),
        )
        yield Case(
            f"thinking billed {times} times above max_tokens",
            partial(within, honest(300, outputs), "0.05", over, SMALL),
        )
    scripts = {
        "emoji": "\U0001f9d1\u200d\U0001f680",
        "tamil": "நிலவு",
        "base64": "aGVsbG8=",
        "digits": "0123456789",
    }
    for script, text in scripts.items():
        fields = {**SMALL, "prompts": {"p": text * 200}, "system": text * 50}
        yield Case(f"a token a byte, {script}", partial(within, token_a_byte, "0.05", NOTHING, fields))


# -- money that no column holds


def beyond_any_column(tokens: int, usd_per_mtok: int, folder: Path) -> str | None:
    """The answer is kept, its cost is unknown and told, and the dataset can be read."""
    with liar(honest(tokens, tokens)) as (base_url, _):
        price = {"input_usd_per_mtok": usd_per_mtok, "output_usd_per_mtok": usd_per_mtok}
        report = run(folder, base_url, pictures("64x64", 3), None, prices={FLASH: price})
    found = rows(folder / "out")
    if report.total("answered") != 3 or len(found) != 3:
        return f"{len(found)} of 3 answers are in the dataset"
    words = [
        row["extra"] for row in found if row["cost_usd"] is None and "cost_beyond" in (row["extra"] or "")
    ]
    return None if len(words) == 3 else f"unknown costs are told of {len(words)} of 3 answers"


def huge_cases() -> Iterator[Case]:
    for tokens, price in ((10**9, 6000), (10**9, 999_000), (10**8, 6000)):
        name = f"{tokens:,} tokens at ${price:,}/M"
        yield Case(name, partial(beyond_any_column, tokens, price))


CASES = [*media_cases(), *liar_cases(), *huge_cases()]
