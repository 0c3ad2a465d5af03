"""Job files, flags and arguments that are hostile or only odd: told in words, quickly, in little memory."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from mavi_tasks.cli.main import main
from tests.bench.hostile.case import Case

HEAD = "manifest: m.csv\nmodels: [gemini:gemini-2.5-flash]\nprompts: hi\ngateway: sandbox\noutput: out\n"
NINES = "9" * 5000


def ends_well(folder: Path, argv: list[str], words: str | None) -> str | None:
    """Held when the command ends with 2 and these words in its error; with words None, with any status."""
    told = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            status = main(argv)
        except SystemExit as ended:  # argparse's own
            status = int(ended.code or 0)
    said = told.getvalue()
    if len(said) > 100_000:
        return f"printed {len(said):,} characters"
    if words is None:
        return None if status in (0, 2, 3, 4) else f"ended with {status}"
    if status != 2:
        return f"ended with {status}: {said[-150:]!r}"
    return None if words in said else f"said {said[-150:]!r}, not {words!r}"


def job(content: str | bytes, words: str | None) -> Callable[[Path], str | None]:
    def attempt(folder: Path) -> str | None:
        (folder / "m.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (folder / "job.yaml").write_bytes(data)
        return ends_well(folder, ["plan", "job.yaml"], words)

    return attempt


def flags(argv: list[str], words: str | None) -> Callable[[Path], str | None]:
    def attempt(folder: Path) -> str | None:
        (folder / "m.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
        (folder / "job.yaml").write_text(HEAD)
        (folder / "out").mkdir()
        return ends_well(folder, argv, words)

    return attempt


def laughs(levels: int, width: int) -> str:
    lines = ["x0: &x0 [ha, ha]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def merges(levels: int) -> str:
    lines = ["x0: &x0 {a: 1}"]
    lines += [f"x{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}, *x{n - 1}]}}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


DOLLARS = "must be dollars, for example 5.00"
DATE = "must be a date (2026-11-22), an instant"
JOBS: dict[str, tuple[str | bytes, str | None]] = {
    "a billion laughs": (laughs(10, 9) + HEAD, "its aliases (&, *) expand without end"),
    "2^60 laughs": (laughs(60, 2) + HEAD, "its aliases (&, *) expand without end"),
    "merges of merges": (merges(30) + HEAD, "its aliases (&, *) expand without end"),
    "a mapping that holds itself": (HEAD + "params: &a {x: *a}\n", "its aliases (&, *) expand without end"),
    "aliases 500 levels deep": (laughs(500, 1) + HEAD, "is nested more than 100 levels deep"),
    "lists 100,000 levels deep": (HEAD + "params: " + "[" * 100_000, "exceeded maximum nesting depth"),
    "mappings 300 levels deep": (HEAD + "params: " + "{a: " * 300 + "1" + "}" * 300, "100 levels deep"),
    "lines 900 levels deep": (
        HEAD + "params:\n" + "".join(" " * (n + 1) + "a:\n" for n in range(900)),
        "100 levels deep",
    ),
    "a schema 800 levels deep": (
        HEAD + "answer_schema: " + "{type: object, properties: {a: " * 400 + "{}" + "}}" * 400,
        "100 levels deep",
    ),
    "5 MB of job": (HEAD + "#" * 5_000_000, "is too large for a job file"),
    "20,000 models": (
        HEAD.replace("gemini:gemini-2.5-flash", ", ".join(f"gemini:m{n}" for n in range(20_000))),
        "has 20,000 models; at most 500",
    ),
    "400 unknown models": (
        HEAD.replace("gemini:gemini-2.5-flash", ", ".join(f"gemini:m{n}" for n in range(400))),
        "no such model",
    ),
    "a model's name of 100,000 characters": (
        HEAD.replace("gemini:gemini-2.5-flash", "gemini:" + "m" * 100_000),
        "no such model",
    ),
    "an unknown key of 100,000 characters": (HEAD + "k" * 100_000 + ": 1\n", None),
    "dollars: 1e999999999": (HEAD + "budget_usd: 1e999999999\n", DOLLARS),
    "dollars: 1e-999999999": (HEAD + "budget_usd: '1e-999999999'\n", "must have at most 12 decimals"),
    "dollars: an infinity": (HEAD + "budget_usd: .inf\n", DOLLARS),
    "dollars: 4,000 digits": (HEAD + f"budget_usd: {'9' * 4000}\n", DOLLARS),
    "dollars: 100,000 digits": (HEAD + f"budget_usd: {'9' * 100_000}\n", "cannot be read"),
    "dollars: a price of 1e999999999": (
        HEAD + "prices: {'gemini:x': {input_usd_per_mtok: '1e999999999', output_usd_per_mtok: 1}}\n",
        DOLLARS,
    ),
    "a limit of 400 digits": (HEAD + f"limit: {'9' * 400}\n", "limit"),
    "a limit of 5,000 digits": (HEAD + f"limit: {NINES}\n", "cannot be read"),
    "a limit of 1e999999999": (HEAD + "limit: 1e999999999\n", "limit"),
    "a limit in sixties": (HEAD + "limit: 1" + ":59" * 2000 + "\n", "limit"),
    "seconds of 400 digits": (HEAD + f"retry: {{base_s: {'9' * 400}}}\n", "base_s"),
    "a temperature of 400 digits": (HEAD + f"params: {{temperature: {'9' * 400}}}\n", "temperature"),
    "max_tokens of 4,000 digits": (HEAD + f"params: {{max_tokens: {'9' * 4000}}}\n", "max_tokens"),
    "workers of 1e18": (HEAD + "workers: 1e18\n", "workers"),
    "since october": (HEAD + "since: october\n", DATE),
    "since 99999999999d": (HEAD + "since: 99999999999d\n", DATE),
    "since P99999999999D": (HEAD + "since: P99999999999D\n", DATE),
    "since 999999d": (HEAD + "since: 999999d\n", "at most 36500d"),
    "since 400 digits of days": (HEAD + f"since: {'9' * 400}d\n", DATE),
    "since 2026-99-99": (HEAD + "since: 2026-99-99\n", "month must be in 1..12"),
    "since year 1 in another zone": (HEAD + "since: '0001-01-01T00:00:00+23:59'\n", None),
    "since an offset of 99 hours": (HEAD + "since: 2026-10-01T00:00:00+99:99\n", "cannot be read"),
    "!!int of nothing": (HEAD + "limit: !!int ''\n", "cannot be read"),
    "!!bool of a word": (HEAD + "repair: !!bool perhaps\n", "cannot be read"),
    "!!timestamp of a word": (HEAD + "since: !!timestamp x\n", "cannot be read"),
    "!!float of nothing": (HEAD + "limit: !!float ''\n", "cannot be read"),
    "!!python/object": (HEAD + "system: !!python/object/apply:os.system [ls]\n", "system"),
    "a tag of one's own": (HEAD + "system: !mine x\n", "cannot be read"),
    "a key twice": (HEAD + "name: a\nname: b\n", "name: duplicate key (first on line 6)"),
    "a key twice, inside": (
        HEAD + "params: {temperature: 0, temperature: 1}\n",
        "temperature: duplicate key",
    ),
    "a list as a key": (HEAD + "? [a]\n: b\n", "a key must be text"),
    "two documents": (HEAD + "---\na: 1\n", "is not valid YAML"),
    "an alias of nothing": (HEAD + "params: *nope\n", "is not valid YAML"),
    "a NUL in a name": (HEAD.replace("out\n", '"a\\0b"\n'), "output"),
    "a NUL in the manifest": (HEAD.replace("m.csv", '"a\\0b"'), "manifest"),
    "half a surrogate as a manifest": (HEAD.replace("m.csv", '"\\ud800.csv"'), None),
    "half a surrogate as a prompt": (HEAD.replace("hi", '"\\ud800"'), None),
    "Latin-1": (HEAD.encode() + b"name: \xe4\n", "byte 0xe4 is not UTF-8"),
    "UTF-16": (HEAD.encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "UTF-32": (HEAD.encode("utf-32"), "is UTF-16; save it as UTF-8"),
    "a BOM": (b"\xef\xbb\xbf" + HEAD.encode(), None),
    "all bytes": (bytes(range(256)) * 10, "is not UTF-8"),
    "a list": ("- a\n", "must be a mapping of keys"),
    "nothing": ("", "is empty"),
}

RUN = ["plan", "job.yaml"]
PRICE = ["price", "gemini:gemini-2.5-flash", "--output", "1", "--input"]
FLAGS: dict[str, tuple[list[str], str | None]] = {
    "--limit of 5,000 digits": ([*RUN, "--limit", NINES], "--limit"),
    "--limit 1e999999999": ([*RUN, "--limit", "1e999999999"], "--limit"),
    "--budget-usd 1e999999999": ([*RUN, "--budget-usd", "1e999999999"], DOLLARS),
    "--budget-usd nan": ([*RUN, "--budget-usd", "nan"], DOLLARS),
    "--max-cost-per-item of 5,000 digits": ([*RUN, "--max-cost-per-item", NINES], DOLLARS),
    "--model of no family": ([*RUN, "--model", "x" * 5000], "the family is missing"),
    "--model that nobody knows": ([*RUN, "--model", "gpt:gpt-99"], "no such model"),
    "--prompt of bytes": ([*RUN, "--prompt", "\udcff"], "not UTF-8"),
    "--out of bytes": ([*RUN, "--out", "\udcff"], "not UTF-8"),
    "--out of a long name": ([*RUN, "--out", "a" * 300], None),
    "--base-url of half an address": ([*RUN, "--base-url", "http://[::1"], "must be a URL"),
    "--base-url with a port of 10 digits": ([*RUN, "--base-url", "http://h:9999999999/"], "must be a URL"),
    "--gateway of 5,000 digits": ([*RUN, "--gateway", NINES], "must be mavi or sandbox"),
    "--pilot of 5,000 digits": (["run", "job.yaml", "--pilot", NINES], "--pilot"),
    "a price of 5,000 digits": ([*PRICE, NINES], "--input"),
    "a price of 4,000 digits": ([*PRICE, "9" * 4000], "must be a whole number from 0"),
    "a price of -1 tokens": ([*PRICE, "-1"], "--input"),
    "a price in october": ([*PRICE, "1", "--on", "october"], "must be a date, such as 2026-11-22"),
    "costs since october": (["costs", "out", "--since", "october"], "must be a date, such as 2026-11-22"),
    "costs of a month 13": (["costs", "out", "--until", "2026-13-01"], "must be a date"),
    "costs of a budget of 1e999999999": (["costs", "out", "--budget-usd", "1e999999999"], None),
    "a mistyped command": (["pln"], "did you mean plan?"),
    "a mistyped flag": ([*RUN, "--bugdet-usd", "1"], "did you mean --budget-usd?"),
    "a command of 100,000 characters": (["x" * 100_000], None),
    "a flag of 100,000 characters": ([*RUN, "--" + "x" * 100_000], None),
    "nothing": ([], None),
    "a folder as a job": (["plan", "out"], None),
    "a dataset of half a surrogate": (["status", "\udcff"], "not UTF-8"),
}

CASES = [
    *(Case(f"job: {name}", job(*parts), longest_s=20, most_mb=500) for name, parts in JOBS.items()),
    *(Case(f"flags: {name}", flags(*parts), longest_s=20, most_mb=500) for name, parts in FLAGS.items()),
]
