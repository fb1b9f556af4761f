"""The page's template, style and script, put together by Jinja2 (extra `viz`). Every text is escaped by the engine."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["render"]

_SCRIPTS = ("tabs.js", "map.js", "layer.js", "page.js")


def render(**content: Any) -> str:
    """Return the page.

    Args:
        content: what the template names; `data` becomes the block that the script reads.
    """
    style = _source("page.css")
    script = "\n".join(['"use strict";', *(_source(name) for name in _SCRIPTS)])
    template = _environment().get_template("page.html")
    return template.render(
        **content,
        style=Markup(style),
        script=Markup(script),
        # Only what has these hashes may run or apply, whatever else should ever get into a page.
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


@cache
def _environment() -> Environment:
    """Return one environment for all pages, which compiles the template once."""
    return Environment(
        loader=PackageLoader("drconv.viz.page", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return (files("drconv.viz.page") / "assets" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
