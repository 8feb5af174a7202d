"""A real browser on the explorers' static pages; tests skip where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bckd.viz.explorers.base import Explorer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>explorer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ color-scheme: light dark }} body {{ margin: 8px }}</style></head>
<body>{fragment}</body></html>
"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium of this system, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as driver:
        # Containers run tests as root and give little shared memory.
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=found[0], args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens fragments of HTML as one page from a file, offline; it fails on any script error.

    `open_page(*fragments, width=1200, dark=False, still=False)` returns a playwright page;
    `still` asks for reduced motion. Requests that leave the file fail the test too.
    """
    with opening_pages(chromium, tmp_path) as open_:
        yield open_


@pytest.fixture(scope="module")
def open_page_of_module(
    chromium: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """`open_page` for a page that the tests of a file share."""
    with opening_pages(chromium, tmp_path_factory.mktemp("pages")) as open_:
        yield open_


@contextmanager
def opening_pages(chromium: Any, folder: Path) -> Iterator[Callable[..., Any]]:
    contexts, faults = [], []

    def open_(
        *fragments: str, width: int = 1200, dark: bool = False, still: bool = False, **options: Any
    ) -> Any:
        path = folder / f"page-{len(contexts)}.html"
        path.write_text(PAGE.format(fragment="\n".join(fragments)), encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 1000},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
            offline=True,
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on(
            "request",
            lambda r: (
                None
                if r.url == path.as_uri() or r.url.startswith(("data:", "blob:"))
                else faults.append(f"request: {r.url}")
            ),
        )
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def open_explorer(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """`open_explorer(explorer, **options of open_page)`: the page of one explorer."""

    def open_(explorer: Explorer, **options: Any) -> Any:
        return open_page(explorer.static_html(), **options)

    return open_


@pytest.fixture
def state_of() -> Callable[[Any], dict[str, Any]]:
    """`state_of(page)`: the state of the page's first explorer, as Python would see it."""
    return lambda page: page.evaluate('document.querySelector("[data-bckd]").model.get("state")')


@pytest.fixture
def chart_brightness() -> Callable[[Any], tuple[float, float]]:
    """`chart_brightness(replay)`: of the first chart's tick labels and its paper, 0 to 255."""
    return lambda replay: replay.evaluate(
        """async (replay) => {
          await new Promise(requestAnimationFrame); // changes are drawn
          const canvas = replay.querySelector(".chart canvas");
          const margin = canvas.getContext("2d").getImageData(0, 0, 30, canvas.height).data;
          const opacities = margin.filter((_, n) => n % 4 === 3);
          const densest = 4 * opacities.indexOf(Math.max(...opacities));
          const paper = getComputedStyle(replay).backgroundColor.match(/\\d+/g).map(Number);
          return [margin.slice(densest), paper].map(([r, g, b]) => (r + g + b) / 3);
        }"""
    )
