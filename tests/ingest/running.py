"""A running door for tests: uvicorn with httptools on a free port, keys in memory, a writer to choose."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from prometheus_client import CollectorRegistry

from impact_cli.http_heads import HeadLimits, bounded
from impact_eventlog.ports import LogUnavailable
from impact_ingest.app import create_app
from impact_ingest.rules import Rules
from impact_schemas.catalog import parse_catalogs
from impact_schemas.identity import Identities, Pseudonyms
from impact_schemas.keys import ApiKey, make_key
from impact_schemas.wire import EVENTS_TOPIC, QUARANTINE_TOPIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from impact_eventlog.ports import EventLogWriter, KeyedEvent
    from impact_ingest.limits import Limits
    from impact_ingest.status import Settled
    from impact_schemas.catalog import Catalog

MASTER = b"a master key that is only for tests"
PSEUDONYMS = Pseudonyms(MASTER)
IDENTITIES = Identities(MASTER)
NOW = 1_769_860_800_000_000  # 2026-01-31T12:00:00Z

CATALOGS = {
    "water.yaml": """
apiVersion: impact/v1
product: water
title: Water
sources: ["/water/*", "urn:water"]
since: 2020-01-01
events:
  water.delivered.v1:
    subject: required
    pseudonymous: [data.household, data.contact.phone]
    data:
      type: object
      required: [litres]
      properties:
        litres: {type: number, minimum: 0}
        language: {type: string}
        household: {type: [string, integer]}
        contact: {type: object, properties: {phone: {type: string}}}
        people: {type: array, items: {type: object, properties: {age: {type: integer}}}}
        place: {type: object, properties: {region: {type: string}}}
  water.tested.v1:
    subject: none
    data: {type: object, properties: {clean: {type: boolean}, share: {type: number}}}
  water.note.v1:
    keep_unknown: true
    data: {type: object}
metrics:
  litres: {title: Litres, event: water.delivered.v1, aggregate: sum, of: data.litres, role: impact}
""",
    "wallet.yaml": """
apiVersion: impact/v1
product: wallet
title: Wallet
sources: ["/wallet/*"]
events:
  wallet.opened.v1: {data: {type: object, properties: {county: {type: string}}}}
metrics:
  accounts: {title: Accounts, event: wallet.opened.v1, aggregate: count, role: impact}
""",
}


@cache
def parsed_catalogs() -> dict[str, Catalog]:
    """The catalogs, read once."""
    return parse_catalogs(CATALOGS)


def an_event(**changes: Any) -> dict[str, Any]:
    """A good event; a change to None takes the attribute away."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/water/pump-1",
        "type": "water.delivered.v1",
        "time": "2026-01-31T11:00:00Z",
        "subject": "alice@example.com",
        "data": {"litres": 12.5, "language": "es"},
    } | changes
    return {name: part for name, part in event.items() if part is not None}


def batch_of(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Good events that differ in their ids."""
    return [an_event(id=f"e-{number}", **changes) for number in range(count)]


class Keys:
    """A KeyStore in memory."""

    def __init__(self) -> None:
        self._known: dict[str, ApiKey] = {}

    def make(self, product: str, scopes: str = "write", **changes: Any) -> str:
        text, key_id, secret_hash = make_key(len(self._known).to_bytes(4) + bytes(32))
        self._known[key_id] = ApiKey(
            key_id, product, secret_hash, frozenset(scopes.split()), None, 0, **changes
        )
        return text

    async def find(self, key_id: str) -> ApiKey | None:
        return self.known(key_id)

    def known(self, key_id: str) -> ApiKey | None:
        return self._known.get(key_id)


class KnownEvents(dict[bytes, "Settled"]):
    """An EventStatus in memory, by identity; it fails while it has the entry `down`."""

    async def find(self, product: str, identity: bytes, source: str, event_id: str) -> Settled | None:
        assert IDENTITIES.of(product, source, event_id) == identity
        if b"down" in self:
            raise OSError("the database is away")
        return self.get(identity)

    async def find_all(self, product: str, source: str, events: Mapping[str, bytes]) -> dict[str, Settled]:
        found = {name: await self.find(product, one, source, name) for name, one in events.items()}
        return {name: status for name, status in found.items() if status is not None}


async def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Returns when `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event to wait on)
            await asyncio.sleep(0.002)


@dataclass
class MemoryWriter:
    """An event log in memory that can fail, and can be slow."""

    records: dict[str, list[tuple[str, KeyedEvent]]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    errors: dict[str, Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None

    async def start(self) -> None: ...

    async def append(
        self, topic: str, product: str, events: Sequence[KeyedEvent], received_at: int | None = None
    ) -> None:
        assert received_at is None, "the door leaves the receipt time to the log"
        if self.gate is not None:
            await self.gate.wait()
        if topic in self.failing:
            raise LogUnavailable("the broker is away")
        if topic in self.errors:
            raise self.errors[topic]
        self.records.setdefault(topic, []).extend((product, event) for event in events)

    async def ready(self) -> bool:
        return not self.failing

    async def stop(self) -> None: ...

    def events(self) -> list[dict[str, Any]]:
        """What is in the event log."""
        return [json.loads(event.event) for _, event in self.records.get(EVENTS_TOPIC, [])]

    def quarantined(self) -> list[dict[str, Any]]:
        """What is in the quarantine log."""
        return [json.loads(event.event) for _, event in self.records.get(QUARANTINE_TOPIC, [])]

    def everything(self) -> bytes:
        """All bytes of both logs."""
        return b"\n".join(event.event for records in self.records.values() for _, event in records)


@dataclass
class Service:
    """A door that runs, and how to talk to it."""

    client: httpx.AsyncClient
    port: int
    keys: Keys
    key: str
    rules: Rules
    registry: CollectorRegistry
    known: KnownEvents

    async def send(
        self, content: Any, kind: str = "cloudevents-batch+json", **options: Any
    ) -> httpx.Response:
        """Posts events; `content` is bytes, or something to be made JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": f"application/{kind}"}
        headers |= options.pop("headers", {})
        return await self.client.post("/v1/events", content=body, headers=headers, **options)

    async def send_one(self, **changes: Any) -> httpx.Response:
        """Posts one event in structured mode."""
        return await self.send(an_event(**changes), "cloudevents+json")

    async def raw(self, *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 5.0) -> bytes:
        """Sends bytes as they are and reads until the server closes; for what clients would tidy up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            async with asyncio.timeout(timeout_s):
                return await reader.read()
        finally:
            writer.close()

    def head(self, *lines: str, kind: str = "cloudevents+json") -> bytes:
        """The head of a raw request with a good key."""
        first = ["POST /v1/events HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}"]
        return "\r\n".join([*first, f"Content-Type: application/{kind}", *lines, "", ""]).encode()

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value, 0 if there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(
    writer: EventLogWriter,
    *,
    limits: Limits | None = None,
    now: int | None = NOW,
) -> AsyncIterator[Service]:
    """A door that listens; `now` None is the real clock."""
    keys, registry, rules, known = Keys(), CollectorRegistry(), Rules(parsed_catalogs()), KnownEvents()
    app = create_app(
        catalogs=rules,
        writer=writer,
        keys=keys,
        identities=IDENTITIES,
        pseudonyms=PSEUDONYMS,
        registry=registry,
        limits=limits,
        readiness={"event log": writer.ready},
        known_events=known,
        clock=(lambda: time.time_ns() // 1000) if now is None else (lambda: now),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        app,
        http=bounded(HeadLimits(), app.express.take),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listening])
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False
        ) as client:
            yield Service(client, port, keys, keys.make("water"), rules, registry, known)
    finally:
        await _close(server)


async def _close(server: uvicorn.Server) -> None:
    """Like uvicorn's own shutdown, without its pauses of 0.1 s."""
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    state = server.server_state
    await eventually(lambda: not state.connections and not state.tasks)
