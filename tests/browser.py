"""The browser that the tests of pages use: one that is installed, without any of its own traffic.

Where there is none the tests skip, unless `DRCONV_REQUIRE_BROWSER` is set.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["open_browser"]

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")  # fmt: skip


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start Chromium without a window, or skip the test."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _give_up("Playwright is not installed (pip install playwright)")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        _give_up("there is no Chromium on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        yield browser
        browser.close()


def _give_up(reason: str) -> None:
    if os.environ.get("DRCONV_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)
