"""How faults speak: values as they were written, and the name that was probably meant."""

from __future__ import annotations

import difflib
import json
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_MOST_SHOWN = 60  # characters of a text; a fault is one line
_MOST_LISTED = 12


def quoted(text: str) -> str:
    """Text on one line: newlines and control characters are escaped, so that it cannot forge another line."""
    short = text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in json.dumps(short, ensure_ascii=False)
    )


def shown(value: object) -> str:
    """A value in a sentence."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | Decimal():
            return f"the number {value}"
        case str():
            return quoted(value)
        case dict():
            return "a mapping"
        case _:
            return "a list"


def one_of(names: Iterable[str]) -> str:
    """The names there are, or as many as a line takes."""
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - _MOST_LISTED} more" if len(every) > _MOST_LISTED else ""
    return ", ".join(every[:_MOST_LISTED]) + more if every else "none"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`; did you mean X?` if one of `known` is close, otherwise nothing."""
    close = difflib.get_close_matches(str(name)[:255], list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """Says that there is no such name, and which there are."""
    return f"unknown {kind} {shown(name)}" + (
        did_you_mean(name, known) or f" (there are {one_of(sorted(known))})"
    )
