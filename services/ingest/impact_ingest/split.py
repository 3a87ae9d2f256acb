"""Splits a body into events: the four content modes, and JSON that can be trusted.

Stricter than JSON parsers are: a body with duplicate keys, a number that would be rounded, NUL or
nesting beyond a limit is unreadable as a whole, because readers further on would not agree about it.
"""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from impact_ingest.envelope import Envelope
from impact_ingest.problems import Problem, too_large, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from impact_ingest.limits import Limits

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
BINARY = "application/json"
LINES = "application/x-ndjson"

MAX_NUMBER_CHARACTERS = 330  # numbers further on are computed with 400 digits
MAX_EXPONENT = 308  # of a double
MAX_FLOAT_DIGITS = 15  # so many decimal digits a double keeps
INT64 = range(-(2**63), 2**63)


class Mode(Enum):
    """How events are laid out in a request."""

    STRUCTURED = auto()
    BATCHED = auto()
    BINARY = auto()
    LINES = auto()


class Events(NamedTuple):
    """The events of one request, each an Envelope or a JSON value, with its size as compact JSON."""

    decoded: list[Any]
    sizes: list[int]
    single: bool  # a bad envelope is then a bad request


_MODES = {
    STRUCTURED.encode(): Mode.STRUCTURED,
    BATCHED.encode(): Mode.BATCHED,
    BINARY.encode(): Mode.BINARY,
    LINES.encode(): Mode.LINES,
    b"": Mode.BINARY,
}
_CHARSETS = {"utf-8", "utf8", "us-ascii"}


def mode_of(content_type: bytes, header_names: Iterable[bytes]) -> Mode:
    """The content mode that the headers announce. Raises Problem 415."""
    mode = _MODES.get(content_type)
    if mode is None:
        mode = _mode_of_long_form(content_type)
    if mode is Mode.BINARY and not any(name.startswith(b"ce-") for name in header_names):
        raise _unsupported_media_type()
    return mode


def plain_mode(headers: Mapping[bytes, bytes]) -> Mode | None:
    """The mode, if it and the body's encoding are of the plainest kind."""
    mode = _MODES.get(headers.get(b"content-type", b""))
    plain = mode is Mode.BATCHED or mode is Mode.STRUCTURED
    return mode if plain and b"content-encoding" not in headers else None


def _mode_of_long_form(content_type: bytes) -> Mode:
    """Of a media type with parameters or capitals."""
    media_type, *parameters = content_type.decode("latin-1").lower().split(";")
    mode = _MODES.get(media_type.strip().encode("latin-1"))
    if mode is None:
        raise _unsupported_media_type()
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise Problem(415, "unsupported_media_type", "JSON here is UTF-8: send it with no other charset.")
    return mode


def _unsupported_media_type() -> Problem:
    return Problem(
        415,
        "unsupported_media_type",
        f"Send one event as {STRUCTURED}, many as {BATCHED} or {LINES}, or data alone as {BINARY} with the "
        "event's attributes in ce-* headers.",
    )


def split(mode: Mode, body: bytes, headers: Sequence[tuple[bytes, bytes]], limits: Limits) -> Events:
    """The events of `body`. Raises Problem 400 or 413; what a single event means is not looked at."""
    return plain_events(mode, body, limits) or split_closely(mode, body, headers, limits)


def split_closely(mode: Mode, body: bytes, headers: Sequence[tuple[bytes, bytes]], limits: Limits) -> Events:
    """As `split`, each event as the JSON value that it is."""
    if mode is Mode.LINES:
        decoded = _decode_lines(body)
    elif mode is Mode.BATCHED:
        decoded = decode(body, "the body")
        if type(decoded) is not list:
            raise unreadable(f"{BATCHED} is a JSON array of events: send one event alone as {STRUCTURED}.")
    elif mode is Mode.STRUCTURED:
        event = decode(body, "the body")
        if type(event) is not dict:
            raise unreadable(f"{STRUCTURED} is one JSON object: send an array of events as {BATCHED}.")
        decoded = [event]
    else:
        decoded = [_binary_event(body, headers)]
    if len(decoded) > limits.max_events:
        detail = f"The request has {len(decoded)} events, and {limits.max_events} are allowed."
        raise too_large(detail)
    sizes = _check_exactly(decoded, body, limits, mode)
    return Events(decoded, sizes, single=mode in (Mode.STRUCTURED, Mode.BINARY))


def _canonical_number(text: str) -> int | float | Decimal:
    """A number that is no plain integer, so that equal numbers are written in one way only.

    A float only where it is written as the exact number is: schemas are checked faster against floats.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError(f"a number has more than {MAX_NUMBER_CHARACTERS} characters")
    number = Decimal(text)
    if not number:
        return 0
    magnitude = number.adjusted()
    if abs(magnitude) > MAX_EXPONENT:
        raise ValueError(f"a number has an exponent beyond {MAX_EXPONENT}")
    if magnitude < 19:
        whole = int(number)
        if whole == number and whole in INT64:
            return whole
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 (for mypy: JSON has no NaN)
    kept = len(bytes(digits).rstrip(b"\0"))
    exact = Decimal((sign, digits[:kept], exponent + len(digits) - kept))
    if kept > MAX_FLOAT_DIGITS or _ENCODER.encode(float(exact)) != _ENCODER.encode(exact):
        return exact
    return float(exact)


_ENCODER = msgspec.json.Encoder(decimal_format="number")
# prices, distances and shares repeat: the memo halves the cost of a number
_DECODER = msgspec.json.Decoder(float_hook=lru_cache(maxsize=4096)(_canonical_number))


def decode(text: bytes, where: str) -> Any:
    """JSON, numbers exact. Raises Problem 400."""
    try:
        return _DECODER.decode(text)
    except UnicodeDecodeError:
        raise unreadable(f"In {where}: not UTF-8.") from None
    except RecursionError:
        raise unreadable(f"In {where}: nested too deeply.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise unreadable(f"In {where}: {error}. Send UTF-8 JSON without a byte order mark.") from None


_PLAIN: dict[Mode, msgspec.json.Decoder[Any]] = {
    Mode.STRUCTURED: msgspec.json.Decoder(Envelope, float_hook=_DECODER.float_hook),
    Mode.BATCHED: msgspec.json.Decoder(list[Envelope], float_hook=_DECODER.float_hook),
}


def plain_events(mode: Mode, body: bytes, limits: Limits) -> Events | None:
    """The events of a body that a typed decoder reads at once and that shows no sign of trouble; else None.

    Every sign may be wrong about good input, which is then read closely, and never about bad input.
    """
    decoder = _PLAIN.get(mode)  # once: a member of an Enum is hashed in Python
    if decoder is None or (b"\\" in body and b"\\u00" in body) or _has_long_number(body):
        return None
    try:
        read = decoder.decode(body)
        events = read if mode is Mode.BATCHED else [read]
        written = _ENCODER.encode_lines(events)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # also what is no UTF-8 or no Unicode
        return None
    if body.count(b":") != written.count(b":"):  # attributes that an Envelope has not, or a key twice
        return None
    openings = written.translate(None, _NO_OPENINGS).split(b"\n")
    if len(events) > limits.max_events or max(map(len, openings)) > limits.max_nesting:
        return None
    return Events(events, list(map(len, written.splitlines())), single=mode is Mode.STRUCTURED)


_NO_OPENINGS = bytes(set(range(256)) - set(b"{[\n"))


def _decode_lines(body: bytes) -> list[Any]:
    lines = enumerate(body.split(b"\n"), start=1)
    decoded = [decode(line, f"line {number}") for number, line in lines if line and not line.isspace()]
    if not decoded:
        raise unreadable("The body has no event: send one JSON object a line.")
    return decoded


def _binary_event(body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The event of binary mode; attribute names and values are judged later, like everyone's."""
    event: dict[str, Any] = {}
    for name, value in headers:
        if name == b"content-type" and value:
            event["datacontenttype"] = value.decode("latin-1")
        if not name.startswith(b"ce-"):
            continue
        attribute = name[3:].decode("latin-1")
        if attribute in event or attribute in ("data", "datacontenttype"):
            raise _bad_header(attribute, "is given twice, or belongs into the body or Content-Type")
        event[attribute] = _header_text(attribute, value)
    if body:
        event["data"] = decode(body, "the body")
    return event


def _header_text(attribute: str, value: bytes) -> str:
    try:
        text = unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise _bad_header(attribute, "is not UTF-8, percent-encoded") from None
    if "\0" in text:
        raise _bad_header(attribute, "contains NUL")
    return text


def _bad_header(attribute: str, what: str) -> Problem:
    return Problem(400, "invalid_envelope", f"The header ce-{attribute[:40]} {what}.")


_DIGITS_ALIKE = bytes.maketrans(b"0123456789", b"0" * 10)


def _has_long_number(body: bytes) -> bool:
    """Whether it has a run of digits that, as a number, could be beyond 64 bits: 19 or more."""
    # of such a run four digits at least stand at every fourth place: seldom true otherwise, and quick to see
    return b"0000" in body[::4].translate(_DIGITS_ALIKE) and b"0" * 19 in body.translate(_DIGITS_ALIKE)


def _check_exactly(decoded: list[Any], body: bytes, limits: Limits, mode: Mode) -> list[int]:
    """Sizes of the events as compact JSON. Raises Problem 400 for what the decoder lets pass.

    Cheap signs first, which are never wrong about good input in a harmful way; the exact check only
    when a sign shows.
    """
    try:
        parts = [_ENCODER.encode(event) for event in decoded]
    except UnicodeEncodeError:
        raise unreadable("A string has half a surrogate pair.") from None
    except RecursionError:
        raise unreadable(f"An event is nested deeper than {limits.max_nesting}.") from None
    escapes = b"\\u00" in body
    # \u0000 may be an escaped backslash and text; 19 digits may be an id: then look at every value
    suspicious = (escapes and b"\\u0000" in body) or _has_long_number(body)
    most = -1 if suspicious else limits.max_nesting
    for index in [n for n, part in enumerate(parts) if part.count(b"{") + part.count(b"[") > most]:
        _check_values(decoded[index], limits.max_nesting)
    written = [_ENCODER.encode(decoded[0].get("data"))] if mode is Mode.BINARY else parts
    # A decoder keeps one of two equal keys, so that fewer colons come out than went in. Colons within
    # strings come out as they went in, unless the input wrote one as \u003a.
    if body.count(b":") != b"".join(written).count(b":") or (escapes and b"\\u003" in body):
        for text in body.split(b"\n") if mode is Mode.LINES else [body]:
            if text and not text.isspace():
                json.loads(text, object_pairs_hook=_refuse_duplicates)
    return list(map(len, parts))


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise unreadable("An object has the same key twice: which of the two counts cannot be known.")


def _check_values(event: Any, max_nesting: int) -> None:
    """Every value of one event: NUL, integers beyond 64 bits, nesting."""
    level: list[Any] = [event]
    for _ in range(max_nesting + 2):
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                below.extend(value)
                below.extend(value.values())
            elif type(value) is list:
                below.extend(value)
            elif type(value) is str and "\0" in value:
                raise unreadable("A string contains NUL (\\u0000), which databases do not take.")
            elif type(value) is int and value not in INT64:
                raise unreadable("An integer is beyond 64 bits: send it as text.")
        if not below:
            return
        level = below
    raise unreadable(f"An event is nested deeper than {max_nesting}.")
