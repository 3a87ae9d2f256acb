"""`impact catalog init`: a commented catalog to begin with, from nothing or from a file of events. Pure.

What events show is a guess about what they may hold: the text says where a person has to decide.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from impact_schemas.personal import personal_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_VALUES = 12  # text with more different values is no enumeration
MIN_REPEATS = 2.0  # nor is text whose values come less often than this on average
MAX_VALUE_CHARACTERS = 40
MAX_METRICS_A_TYPE = 8
MAX_DEPTH = 12

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_STEP = re.compile(r"[^\s.\x00-\x1f\x7f]+")
_EVENT_TYPE = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}")
_VERSION = re.compile(r"\.v\d+$")
_UNITS = {"kg": "kg", "km": "km", "litres": "L", "liters": "L", "minutes": "min", "hours": "h", "days": "d"}

EMPTY = """\
# What {title} counts. `impact catalog check` finds every fault in this file; `impact try` shows what it
# makes of a file of events, with no server.
apiVersion: impact/v1
product: {product}                    # in every number and every key; it cannot be changed later
title: {title}
# mission:                            # what the numbers serve; reports begin with it
#   statement: Help people with low incomes get the care that they need.
#   beneficiaries: patients of safety-net clinics
#   north_star: visits                # the metric that stands for the mission
sources: ["/{product}/*"]             # who may send: the `source` of events; * matches any characters
# since: 2020-01-01                   # an event before this day is refused
events:
  {product}.visit.v1:                 # the `type` of events: what happened, with a version
    description: Somebody was helped.
    subject: optional                 # whom it is about: required, optional or none; kept as a pseudonym
    # pseudonymous: [data.household]  # more that points at a person: hashed like the subject
    data:                             # JSON Schema (2020-12); what it does not name is dropped at the door
      type: object
      required: [minutes]
      properties:
        minutes: {{type: number, minimum: 0}}
        language: {{type: string}}
# needs:                              # what people lack, and what is tried against it
#   care: {{statement: The next clinic is far away., people: 120000, source: survey of 2025}}
# bets:
#   vans:
#     need: care
#     hypothesis: Who is near a van comes in time.
#     expects: [{{metric: visits, change: 500, by: 2026-12-31}}]
# risks:
#   - {{id: haste, statement: Visits become hasty., who: patients, metric: hasty_visits, review_every: 90d}}
metrics:
  visits:
    title: Visits
    event: {product}.visit.v1         # one type, or a list of types
    aggregate: count                  # count sum mean min max latest unique p50 p90 p95 p99
    role: impact                      # impact, business, or guardrail (a harm that must stay low)
    dimensions: {{language: data.language}}   # the number for each value too
    # windows: [24h, 28d, all]        # any of 5m 1h 24h 7d 28d 90d 365d all
    # cadence: 1d                     # a longer silence than this is shown as stale
    # evidence: counted               # counted, estimated, modelled or compared
    # privacy: {{min_cell: 11}}         # fewer people than this are never shown
    # targets:
    #   - {{window: all, baseline: {{value: 0, at: 2026-01-01}}, value: 10000, due: 2026-12-31}}
    # leads_to: [people_reached]      # output -> outcome -> impact
    # visibility: public              # whether a public report may show it
  people_reached:
    title: People reached
    event: {product}.visit.v1
    aggregate: unique                 # each person counts once, however often they come
    of: subject
    unit: "{{person}}"                  # UCUM, or ISO 4217 for money
    quantity: people
    role: impact
  minutes_of_care:
    title: Minutes of care
    event: {product}.visit.v1
    # where: {{data.language: es}}      # only events with this value, or one of a list, or {{gt: 5}}
    aggregate: sum
    of: data.minutes
    unit: min
    role: impact
  hasty_visits:
    title: Visits of less than 5 minutes
    event: {product}.visit.v1
    where: {{data.minutes: {{lt: 5}}}}
    aggregate: count
    role: guardrail                   # each product has a harm that must stay low: say which, and its limit
    direction: down
    # limits: {{max: 20, window: 28d}}
  minutes_per_visit:
    title: Minutes a visit
    ratio: {{numerator: minutes_of_care, denominator: visits}}   # rolled up apart, divided at the end
    unit: min
    role: impact
"""


class NoEvents(ValueError):
    """There is nothing to infer from; says why."""


def starter(product: str) -> str:
    """A small catalog that says what everything is for."""
    return EMPTY.format(product=product, title=_titled(product))


def inferred(events: Iterable[bytes], product: str | None = None) -> str:
    """A catalog of the types, schemas and candidate metrics that `events` show. Raises NoEvents."""
    types, sources, unread = _observed(events)
    if not types:
        raise NoEvents(
            "no event with a `type` and a `source` is in it: expected CloudEvents, as impact send takes them"
        )
    name = product or _product_of(types)
    return "\n".join(_lines(name, types, sources, unread)) + "\n"


# --- what is seen -------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What stood at one place of the data, over all events of a type."""

    times: int = 0
    types: set[str] = field(default_factory=set)
    texts: dict[str, int] = field(default_factory=dict)  # at most MAX_VALUES + 1
    too_varied: bool = False
    properties: dict[str, Seen] = field(default_factory=dict)
    objects: int = 0
    items: Seen | None = None

    def take(self, value: Any, depth: int = 0) -> None:
        """One more value."""
        self.times += 1
        self.types.add(_json_type(value))
        if isinstance(value, str):
            self._take_text(value)
        elif isinstance(value, dict) and depth < MAX_DEPTH:
            self.objects += 1
            for name, part in value.items():
                self.properties.setdefault(name, Seen()).take(part, depth + 1)
        elif isinstance(value, list) and depth < MAX_DEPTH:
            self.items = self.items or Seen()
            for item in value:
                self.items.take(item, depth + 1)

    def _take_text(self, text: str) -> None:
        if self.too_varied:
            return
        self.texts[text] = self.texts.get(text, 0) + 1
        if len(self.texts) > MAX_VALUES or len(text) > MAX_VALUE_CHARACTERS:
            self.too_varied = True
            self.texts.clear()

    def values(self) -> list[str] | None:
        """The texts, if they are few and come again and again."""
        if self.too_varied or not self.texts or not self.types <= {"string", "null"}:
            return None
        often = sum(self.texts.values()) >= MIN_REPEATS * len(self.texts)
        return sorted(self.texts) if often else None


@dataclass
class _Type:
    events: int = 0
    with_subject: int = 0
    data: Seen = field(default_factory=Seen)


def _observed(events: Iterable[bytes]) -> tuple[dict[str, _Type], dict[str, int], int]:
    types: dict[str, _Type] = {}
    sources: dict[str, int] = {}
    unread = 0
    for text in events:
        try:
            event = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            event = None
        if not _is_event(event):
            unread += 1
            continue
        seen = types.setdefault(event["type"], _Type())
        seen.events += 1
        seen.with_subject += isinstance(event.get("subject"), str)
        seen.data.take(event.get("data", {}))
        sources[event["source"]] = sources.get(event["source"], 0) + 1
    return types, sources, unread


def _is_event(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and isinstance(event.get("type"), str)
        and isinstance(event.get("source"), str)
        and isinstance(event.get("data", {}), dict)
        and _EVENT_TYPE.fullmatch(event["type"]) is not None
        and _EVENT_TYPE.fullmatch(event["source"]) is not None
        and not event["type"].startswith("impact.")  # retractions and corrections: every product has them
    )


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


# --- what it means ------------------------------------------------------------------------------------


def _schema(seen: Seen) -> dict[str, Any]:
    """JSON Schema of what was seen."""
    types = set(seen.types)
    if "number" in types:
        types.discard("integer")
    schema: dict[str, Any] = {"type": next(iter(types)) if len(types) == 1 else sorted(types)}
    if (values := seen.values()) is not None:
        return {"enum": [*values, *([None] if "null" in types else [])]}
    if "object" in types:
        required = [name for name, part in seen.properties.items() if part.times == seen.objects]
        schema |= {"required": required} if required else {}
        schema["properties"] = {name: _schema(part) for name, part in seen.properties.items()}
    if "array" in types and seen.items is not None and seen.items.times:
        schema["items"] = _schema(seen.items)
    return schema


@dataclass(frozen=True)
class _Leaf:
    path: tuple[str, ...]
    seen: Seen

    @property
    def text(self) -> str:
        return ".".join(("data", *self.path))

    @property
    def is_personal(self) -> bool:
        return personal_kind(self.path[-1]) is not None

    def holds(self, *types: str) -> bool:
        """Whether nothing else (but null) was seen there."""
        return bool(self.seen.types - {"null"}) and self.seen.types <= {*types, "null"}


def _leaves(seen: Seen, path: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    for name, part in seen.properties.items():
        if _STEP.fullmatch(name) is None:
            continue
        if part.types & {"object", "array"}:
            yield from _leaves(part, (*path, name))
        else:
            yield _Leaf((*path, name), part)


class _Names:
    """Metric names that are taken; a second of the same name gets a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, *words: str) -> str:
        # with `_by_` the name could be that of another metric's dimension in Prometheus
        wished = _slug("_".join(words)).replace("_by_", "_of_")[:50].rstrip("_")
        name, number = wished, 2
        while name in self._taken:
            name, number = f"{wished}_{number}", number + 1
        self._taken.add(name)
        return name


def _metrics(event_type: str, seen: _Type, product: str, names: _Names) -> Iterator[tuple[str, list[str]]]:
    """Candidates, each a name and its lines."""
    short = _short(event_type, product)
    leaves = [leaf for leaf in _leaves(seen.data) if not leaf.is_personal]
    by = _dimensions(leaves)
    count = names.new(short, "events")
    yield count, _metric(f"{_titled(short)}: events", event_type, "aggregate: count", *by)
    if seen.with_subject:
        lines = ("aggregate: unique", "of: subject", 'unit: "{person}"', "quantity: people", *by)
        yield names.new(short, "people"), _metric(f"{_titled(short)}: people", event_type, *lines)
    measures = [leaf for leaf in leaves if leaf.holds("integer", "number") or leaf.holds("boolean")]
    for leaf in measures[:MAX_METRICS_A_TYPE]:
        label = " ".join(leaf.path)
        if leaf.holds("integer", "number"):
            of = ("aggregate: sum", f"of: {_scalar(leaf.text)}", _unit(leaf.path[-1]), *by)
            yield names.new(short, *leaf.path), _metric(f"{_titled(short)}: {label}", event_type, *of)
        else:
            where = f"where: {{{_scalar(leaf.text)}: true}}"
            part = names.new(short, *leaf.path)
            yield part, _metric(f"{_titled(short)}: {label}", event_type, where, "aggregate: count", *by)
            ratio = f"ratio: {{numerator: {part}, denominator: {count}}}"
            title = _scalar(f"{_titled(short)}: share of {label}")
            yield names.new(short, *leaf.path, "share"), [f"title: {title}", ratio, "role: impact"]


def _metric(title: str, event_type: str, *lines: str) -> list[str]:
    return [f"title: {_scalar(title)}", f"event: {_scalar(event_type)}", *lines, "role: impact"]


def _unit(name: str) -> str:
    for word, unit in _UNITS.items():
        if re.search(rf"(^|_){word}$", name.lower()):
            return f"unit: {unit}"
    return 'unit: "1"                         # say what it is counted in: UCUM, or ISO 4217 for money'


def _dimensions(leaves: Sequence[_Leaf]) -> list[str]:
    """By what the numbers of a type are split: text of few values."""
    chosen = {_slug(leaf.path[-1]): _scalar(leaf.text) for leaf in leaves if leaf.seen.values() is not None}
    inner = ", ".join(f"{name}: {path}" for name, path in list(chosen.items())[:4] if name not in _RESERVED)
    return [f"dimensions: {{{inner}}}"] if inner else []


_RESERVED = {"product", "window", "metric", "status", "le", "job", "instance"}  # labels of every series


# --- what is written ------------------------------------------------------------------------------------


def _lines(product: str, types: dict[str, _Type], sources: dict[str, int], unread: int) -> Iterator[str]:
    events = sum(seen.events for seen in types.values())
    yield f"# Inferred from {events:,} events: what they showed, not what they mean. Read every line,"
    yield "# correct it, then: impact catalog check, and impact try with the same file."
    if unread:
        yield f"# {unread:,} lines were no CloudEvents with type, source and data of an object: passed over."
    yield "apiVersion: impact/v1"
    yield f"product: {product}"
    yield f"title: {_scalar(_titled(product))}"
    yield "# mission: {statement: ..., beneficiaries: ..., north_star: ...}   # what the numbers serve"
    yield f"sources: [{', '.join(map(_scalar, _globs(sources)))}]"
    yield "# since: 2020-01-01                   # an event before this day is refused"
    yield "events:"
    for event_type, seen in types.items():
        yield from _type_lines(event_type, seen)
    yield "metrics:                              # candidates: keep those that somebody will decide by"
    names = _Names()
    for event_type, seen in types.items():
        for name, lines in _metrics(event_type, seen, product, names):
            yield f"  {name}:"
            yield from (f"    {line}" for line in lines)


def _type_lines(event_type: str, seen: _Type) -> Iterator[str]:
    subject = "none"
    if seen.with_subject:
        subject = "required" if seen.with_subject == seen.events else "optional"
    yield f"  {_scalar(event_type)}:"
    yield f"    # description: ...                # {seen.events:,} events were seen"
    yield f"    subject: {subject}"
    personal = [leaf for leaf in _leaves(seen.data) if leaf.is_personal]
    if personal:
        paths = ", ".join(_scalar(leaf.text) for leaf in personal)
        yield f"    pseudonymous: [{paths}]   # by their names personal: best not sent at all"
    yield f"    data: {_flow(_schema(_hide(seen.data)))}"


def _hide(seen: Seen) -> Seen:
    """Without the values of what may be personal: they must not stand in a file."""
    properties = {}
    for name, part in seen.properties.items():
        hidden = _hide(part)
        if personal_kind(name) is not None:
            hidden.texts, hidden.too_varied = {}, True
        properties[name] = hidden
    copy = Seen(**{**vars(seen), "properties": properties})
    copy.items = _hide(seen.items) if seen.items else None
    return copy


def _flow(value: Any) -> str:
    """Flow style: JSON with plain scalars where YAML lets them stand."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_. -]*[A-Za-z0-9_]|[A-Za-z_]")
_NOT_TEXT = re.compile(r"(?i)true|false|null|yes|no|on|off|nan|inf")


def _scalar(text: str) -> str:
    """Text as a YAML scalar, quoted where it needs to be. JSON's quoting is YAML's."""
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    return json.dumps(text)


def _globs(sources: dict[str, int]) -> list[str]:
    """The sources themselves if they are few, else what they begin with."""
    if len(sources) <= 3:
        return sorted(sources)
    first, last = min(sources), max(sources)
    shared = next(
        (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return [first[: first[:shared].rfind("/") + 1] + "*"]


def _product_of(types: dict[str, _Type]) -> str:
    """The first step of the types, if they share it."""
    firsts = {event_type.split(".")[0] for event_type in types if "." in event_type}
    found = _slug(firsts.pop()) if len(firsts) == 1 else ""
    return found if found and found not in {"com", "org", "net", "io"} else "my_product"


def _short(event_type: str, product: str) -> str:
    """`caremessage.message.delivered.v1` is message_delivered."""
    return _slug(_VERSION.sub("", event_type).removeprefix(f"{product}."))


def _slug(text: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    slug = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]", "_", words)).strip("_")[:50].rstrip("_")
    return slug if _NAME.fullmatch(slug) else f"x_{slug}".rstrip("_")


def _titled(slug: str) -> str:
    return slug.replace("_", " ").capitalize()
