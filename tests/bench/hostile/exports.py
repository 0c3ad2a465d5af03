"""What other programs read: formulas in CSV files, markup in Prefect's artifacts, addresses of pages."""

import csv
import io
import re
import shutil
import subprocess
import unicodedata
from functools import partial
from pathlib import Path

from markdown_it import MarkdownIt

from mavi_tasks.common.spreadsheet import text_cell
from mavi_tasks.reports.tables import markdown_code, markdown_rows, markdown_text
from tests.bench.hostile.case import Case
from tests.support.gateways import REPOSITORY

BEFORE = {
    "nothing": "", "newline": "\n", "two newlines": "\r\n\n", "tab": "\t", "return": "\r", "blank": " ",
    "NBSP": "\xa0", "ideographic space": "\u3000", "narrow NBSP": "\u202f", "zero width": "\u200b",
    "BOM": "\ufeff", "word joiner": "\u2060", "soft hyphen": "\xad", "line separator": "\u2028", "NUL": "\0",
    "escape": "\x1b", "C1": "\x85", "right to left": "\u202e", "hangul filler": "\u3164",
    "several": " \n\xa0\u200b\t",
}  # fmt: skip
SIGNS = "=+-@＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋−"
MARKUP = {
    "link": "[click](https://evil.example)", "image": "![x](https://evil.example/x.png)",
    "HTML": "<img src=x>",
    "script": "<script>alert(1)</script>", "address": "https://evil.example", "www": "www.evil.example",
    "mail": "me@evil.example", "autolink": "<https://evil.example>",
    "reference": "[a][b]\n\n[b]: https://evil.example",
    "bold": "**bold** __bold__", "code": "`x` ``y``", "heading": "# head", "heading below": "a\n===\nb\n---",
    "list": "- a\n- b", "numbered": "1. a", "quote": "> a", "table": "a | b\n--- | ---\nc | d",
    "cell": "a | b |",
    "entity": "&lt;b&gt; &#91;", "backslash": "\\[a](b) \\", "strike": "~~a~~", "fence": "```\ncode\n```",
    "rule": "***", "footnote": "[^1]", "escape": "\x1b[2Jx", "check box": "[x] done", "math": "$x$",
    "javascript": "[a](javascript:alert(1))", "broken": "a\\\n<b>",
}  # fmt: skip
HASHES = (
    "#answers?%E0%A4%A", "#answers?q=%", "#answers?%", "#answers?q=%FF%FE", "#answers?=&&=&", "#%E0%A4%A",
    "#answers?__proto__=1&constructor=2", "#answers?q", "#answers?show=%E0%A4%A&sort=nothing", "#?%%%",
)  # fmt: skip


def formulas(blank: str, _: Path) -> str | None:
    texts = [f'{blank}{sign}HYPERLINK("https://evil.example")' for sign in SIGNS]
    return next((found for text in texts if (found := formula(text))), None)


def formula(text: str) -> str | None:
    """The cell as a spreadsheet reads it, blanks and invisible characters trimmed, is no formula."""
    written = io.StringIO()
    csv.writer(written).writerow([text_cell(text)])
    (cell,) = next(csv.reader(io.StringIO(written.getvalue(), newline="")))
    if cell.removeprefix("'") != text:
        return f"the text was changed to {cell!r}"
    seen = "".join(c for c in cell if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf", "Lo"))
    return f"{cell!r} is a formula" if unicodedata.normalize("NFKC", seen[:1]) in tuple("=+-@−") else None


def numbers(_: Path) -> str | None:
    """What is no formula keeps its form."""
    kept = ["a cat", "5", "a=b", "", "'", "é", "猫", "1-2", "#1", "“=1”"]
    return next((f"{text!r} was changed" for text in kept if text_cell(text) != text), None)


def markup(text: str, _: Path) -> str | None:
    """The text as Prefect's page shows it, in a heading, a list, a cell, bold and as code: only text."""
    read = MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table")
    wanted = " ".join(re.sub("[\x00-\x08\x0e-\x1b]", "\ufffd", text).split())
    page = (
        f"# {markdown_text(text)}: done\n\n- {markdown_text(text)}\n\n**{markdown_text(text)}**\n\n"
        f"At {markdown_code(text)}\n\n{markdown_rows([{'name': text, 'count': 1}])}"
    )
    allowed = {"heading", "paragraph", "inline", "bullet_list", "list_item", "strong", "code_inline", "text"}
    allowed |= {"table", "thead", "tbody", "tr", "th", "td", "text_special"}
    for token in read.parse(page):
        for one in (token, *(token.children or ())):
            if one.type.removesuffix("_open").removesuffix("_close") not in allowed:
                return f"{one.type} was read from {page!r}"
    shown = [
        "".join(one.content for one in token.children or ())
        for token in read.parse(page)
        if token.type == "inline"
    ]
    if shown != [f"{wanted}: done", wanted, wanted, f"At {wanted}", "name", "count", wanted, "1"]:
        return f"shown as {shown}"
    linked = re.search(r"(?<!\\):/|(?<!\\)\bwww\.|\w@", markdown_text(text))
    return f"a bare address stays: {markdown_text(text)}" if linked else None


def page_hash(address: str, _: Path) -> str | None:
    """The function of the compare page that reads its address, run by Node."""
    script = (REPOSITORY / "mavi_tasks/reports/html/bakeoff.js").read_text("utf-8")
    recall = re.search(r"  function recall\(\) \{.*?\n  \}\n", script, re.DOTALL)
    node = shutil.which("node")
    if node is None or recall is None:
        return "needs node, and the function recall() of bakeoff.js"
    code = (
        f"const location = {{hash: {address!r}}}; const $ = () => ({{scrollIntoView() {{}}}});"
        "const fields = {q: {value: ''}, show: {value: ''}, sort: {value: ''}};"
        "const start = {show: 'a', sort: 'b'};"
        f"{recall[0]} recall();"
    )
    done = subprocess.run([node, "-e", code], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[4]


CASES = [
    *(Case(f"CSV: {name} and any sign", partial(formulas, blank)) for name, blank in BEFORE.items()),
    Case("CSV: what is no formula", numbers),
    *(Case(f"markdown: {name}", partial(markup, text)) for name, text in MARKUP.items()),
    *(Case(f"page: {address}", partial(page_hash, address)) for address in HASHES),
]
