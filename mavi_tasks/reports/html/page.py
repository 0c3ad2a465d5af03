"""The shell of every page: one HTML file that opens offline, runs nothing foreign and reads well anywhere.

The data lie in the page as gzip + base64 JSON, outside any script's text, and the browser may run and style
only what is hashed here: an answer that contains a tag stays text, whatever it says.
"""

import gzip
import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mavi_tasks.common import format

HERE = Path(__file__).parent
NOTHING = Markup("")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page: an anchor, its heading, and HTML that is already safe."""

    id: str
    heading: str
    body: Markup
    intro: str = ""


def render(
    title: str,
    sections: Sequence[Section],
    data: Mapping[str, object] | None = None,
    scripts: Sequence[str] = (),
    *,
    styles: Sequence[str] = (),
    subtitle: str = "",
    lead: Markup = NOTHING,
    notices: Sequence[str] = (),
    caveats: Sequence[str] = (),
    footer: str = "",
) -> str:
    """Return the whole page as text.

    `data` is any JSON (no NaN); scripts read it by `await mavi.data`. `scripts` and `styles` are our sources,
    put after page.js and style.css. `lead` stands above the sections (the verdict), `notices` are banners
    on top, `caveats` a list below the verdict.
    No inline `style=` attribute works on these pages (the policy forbids it): use classes of style.css.
    """
    style = "\n".join([_asset("style.css"), *styles])
    script = "\n".join([_asset("page.js"), *scripts])
    if "</script" in script.lower():
        raise ValueError("a page script may not contain a closing script tag")
    return (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            subtitle=subtitle,
            sections=sections,
            lead=lead,
            notices=notices,
            caveats=caveats,
            footer=footer,
            policy=_policy(style, script),
            style=Markup(style),  # noqa: S704 - our own file, not data
            script=Markup(script),  # noqa: S704 - our own files, not data
            packed=pack(data or {}),
        )
    )


def fragment(template: str, **values: object) -> Markup:
    """Return one template of templates/ filled in, every value escaped."""
    return Markup(environment().get_template(template).render(**values))  # noqa: S704 - autoescaped


def asset(name: str) -> str:
    """Return the text of a script or style sheet beside this module."""
    return _asset(name)


def pack(data: Mapping[str, object]) -> str:
    """Return the data as base64 of gzipped JSON; the same data give the same text."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return b64encode(gzip.compress(text.encode("utf-8", "surrogatepass"), 9, mtime=0)).decode("ascii")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates, with autoescape on and number formats as filters."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("usd", "exact_usd", "percent", "points", "count", "seconds", "number", "p_value", "verdict"):
        made.filters[name] = getattr(format, name)
    return made


@lru_cache
def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
