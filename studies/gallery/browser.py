"""Views of an interactive page in a browser that is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["NoBrowserError", "open_browser", "shoot"]

_DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 1210}}
_OPTIONS: dict[str, dict[str, Any]] = {
    "classes": {"viewport": {"width": 900, "height": 900}, "device_scale_factor": 1.5},
    "dark": {**_DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True,
              "has_touch": True},
}  # fmt: skip


class NoBrowserError(Exception):
    """There is nothing that could show a page."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start Chromium without a window.

    Raises:
        NoBrowserError: Playwright or Chromium is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowserError("Playwright is not installed (pip install playwright)") from error
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise NoBrowserError("there is no Chromium on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def shoot(browser: Any, page: Path, view: str) -> Image.Image:
    """Return a screenshot.

    Args:
        browser: from `open_browser`.
        page: the file.
        view: "light", "dark" or "phone" for the window; "boundaries" or "margins" for the map alone; "classes" for the
            table of regions and classes.
    """
    context = browser.new_context(**_OPTIONS.get(view, _DESKTOP))
    opened = context.new_page()
    opened.goto(page.resolve().as_uri())
    opened.wait_for_selector("html.ready")
    panel = opened.locator("[role=tabpanel]:not(.put-away)")
    if view == "dark":
        opened.locator("[role=tab]").nth(1).click()
    if view in ("light", "dark"):
        place = panel.locator(".map").bounding_box()
        opened.mouse.click(place["x"] + 0.62 * place["width"], place["y"] + 0.4 * place["height"])
    if view in ("boundaries", "margins"):
        panel.locator(f"input[value={view}]").check()
        panel.locator(".with-numbers").uncheck()
        if view == "margins":
            panel.locator("input[type=range]").fill("100")
    part = {"boundaries": ".map", "margins": ".map", "classes": ".classes"}.get(view)
    found = panel.locator(part).screenshot() if part else opened.screenshot()
    context.close()
    return Image.open(BytesIO(found)).convert("RGB")
