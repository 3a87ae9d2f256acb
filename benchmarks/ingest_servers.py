"""The servers that `ingest.py` measures beside the service: each runs in a process of its own.

python -m benchmarks.ingest_servers bare|fastapi PORT BOOTSTRAP TOPIC
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from datetime import datetime  # noqa: TC003 (pydantic reads the annotation)
from typing import TYPE_CHECKING, Annotated, Literal

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and says 202: what the HTTP server costs alone."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


Text = Annotated[str, Field(min_length=1)]


class Data(BaseModel):
    """The data of the benchmark's events."""

    channel: Literal["sms", "voice"]
    language: str
    cost: Annotated[float, Field(ge=0)]
    clinic: str


class Event(BaseModel):
    """As most services would write it."""

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: Text
    time: datetime
    subject: Text
    data: Data


def fastapi(bootstrap: str, topic: str) -> FastAPI:
    """FastAPI, pydantic, and one `send` an event: the usual way. It does less: no key, no pseudonym."""
    state: dict[str, AIOKafkaProducer] = {}

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=2
        )
        await producer.start()
        state["producer"] = producer
        yield
        await producer.stop()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/events", status_code=202)
    async def take(events: list[Event], _request: Request) -> dict[str, int]:
        send = state["producer"].send
        deliveries = [
            await send(topic, event.model_dump_json().encode(), key=event.id.encode()) for event in events
        ]
        await asyncio.gather(*deliveries)
        return {"accepted": len(events)}

    return app


if __name__ == "__main__":
    name, port, bootstrap_servers, topic_name = sys.argv[1:]
    uvicorn.run(
        bare if name == "bare" else fastapi(bootstrap_servers, topic_name),
        port=int(port),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="error",
    )
