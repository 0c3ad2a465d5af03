"""Opens a page in Chromium as a reader would, from a file, and keeps all it complained about or asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(slots=True)
class Opened:
    """A page on screen; `errors` are console errors and exceptions, `requests` what it asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """What axe finds wrong, serious and critical only, one line each."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:160]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


def browser_path() -> str | None:
    """The Chromium of this system, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser for a module's tests; started once, because starting takes a second."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser,
    path: Path,
    *,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    fragment: str = "",
) -> Iterator[Opened]:
    """The page of `path`, loaded, in a fresh profile."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    seen = Opened(page)
    address = path.resolve().as_uri()
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda request: _keep(seen.requests, request.url, address))
    try:
        page.goto(address + fragment)
        yield seen
    finally:
        context.close()


def _keep(kept: list[str], url: str, address: str) -> None:
    """data: pictures lie in the page; everything else would be a request."""
    if not url.startswith("data:") and url.partition("#")[0] != address:
        kept.append(url)


def shot(seen: Opened, name: str) -> None:
    """Save a picture of the whole page under MAVI_SHOTS, when that is set."""
    if folder := os.environ.get("MAVI_SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
