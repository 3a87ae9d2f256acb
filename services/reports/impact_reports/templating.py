"""Templates and assets, read from the package once."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from impact_schemas import wording

ASSETS = {"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"}

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")


@cache
def asset(name: str) -> bytes:
    """A file that pages refer to."""
    return files("impact_reports").joinpath("static", name).read_bytes()


def asset_path(name: str) -> str:
    """With its content in it: browsers may keep it for ever, and never show an old style with a new page."""
    return f"/static/{hashlib.sha256(asset(name)).hexdigest()[:16]}/{name}"


@cache
def templates() -> Environment:
    """Everything is escaped in HTML, in Markdown by the filter `md`; a misspelt name is a fault."""
    environment = Environment(
        loader=PackageLoader("impact_reports"),
        autoescape=select_autoescape(disabled_extensions=("md",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(asset=asset_path, minute=wording.minute)
    environment.filters["md"] = markdown
    environment.filters["sentence"] = wording.sentence
    return environment


def markdown(text: str) -> str:
    """Text that Markdown takes for text, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
