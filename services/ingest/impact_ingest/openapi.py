"""The OpenAPI description of `POST /v1/events`, from the types that make its answers."""

from __future__ import annotations

from typing import Any

import msgspec

from impact_ingest.body import ENCODINGS
from impact_ingest.problems import PROBLEM_JSON
from impact_ingest.split import BATCHED, BINARY, LINES, STRUCTURED
from impact_ingest.verdicts import Answer

_EVENT = {
    "specversion": "1.0",
    "id": "5b1c7f3e-0001",
    "source": "/caremessage/worker-7",
    "type": "caremessage.message.delivered.v1",
    "time": "2026-01-31T12:00:00Z",
    "subject": "patient-4711",
    "data": {"channel": "sms", "language": "es"},
}
_REJECTION = {
    "index": 1,
    "id": "5b1c7f3e-0002",
    "code": "schema_violation",
    "detail": "the value is less than the minimum of 0",
    "pointer": "/data/litres",
    "retryable": False,
}
_TEXT = {"type": "string", "minLength": 1}
_CLOUD_EVENT = {
    "type": "object",
    "description": "A CloudEvents 1.0 event; further attributes of lower-case letters and digits are kept.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _TEXT | {"description": "With `source` the event's identity: a resend keeps it."},
        "source": _TEXT | {"description": "One of the catalog's `sources`."},
        "type": _TEXT | {"description": "One of the catalog's `events`."},
        "time": {"type": "string", "format": "date-time", "description": "Without it, the time of receipt."},
        "subject": _TEXT | {"description": "Only its pseudonym is kept."},
        "datacontenttype": _TEXT,
        "dataschema": _TEXT,
        "data": {"description": "As the catalog's JSON Schema of the type says."},
    },
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. A 422 carries `accepted` and `rejected` too.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable, for programs."},
        "detail": {"type": "string", "description": "What is wrong and what to do next."},
        "pointer": {"type": ["string", "null"]},
    },
}
_REFUSAL = {
    "allOf": [{"$ref": "#/components/schemas/Problem"}, {"$ref": "#/components/schemas/Answer"}],
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
_CHALLENGE = {"WWW-Authenticate": {"schema": {"type": "string"}}}


def components() -> dict[str, Any]:
    """Schemas and the security scheme that the path refers to."""
    _, schemas = msgspec.json.schema_components([Answer], ref_template="#/components/schemas/{name}")
    return {
        "schemas": {**schemas, "CloudEvent": _CLOUD_EVENT, "Problem": _PROBLEM},
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "A key with scope write; for a dry run, import.",
            }
        },
    }


def path_item() -> dict[str, Any]:
    """`/v1/events`."""
    return {
        "post": {
            "tags": ["events"],
            "operationId": "send_events",
            "summary": "Send events",
            "description": "Takes events into the log. A 202 means that every event is durably kept; the "
            "same id may be sent again at any time and counts once.",
            "security": [{"key": []}],
            "parameters": _parameters(),
            "requestBody": {"required": True, "content": _request_content()},
            "responses": _responses(),
        }
    }


def _parameters() -> list[dict[str, Any]]:
    flag = {"type": "boolean", "default": False}
    header = {"in": "header", "required": False}
    binary = "Binary mode only."
    return [
        {"name": "dry_run", "in": "query", "schema": flag, "description": "Verdicts only: nothing is kept."},
        {"name": "atomic", "in": "query", "schema": flag, "description": "One is rejected: none is taken."},
        header | {"name": "Content-Encoding", "schema": {"enum": list(ENCODINGS)}},
        *(
            header | {"name": f"ce-{name}", "schema": {"type": "string"}, "description": binary}
            for name in ("specversion", "id", "source", "type", "time", "subject")
        ),
    ]


def _request_content() -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/CloudEvent"}
    return {
        STRUCTURED: {"schema": event, "example": _EVENT},
        BATCHED: {"schema": {"type": "array", "items": event}, "example": [_EVENT]},
        BINARY: {"schema": {"description": "The event's data."}, "example": _EVENT["data"]},
        LINES: {
            "schema": {"type": "string", "description": "One CloudEvent a line."},
            "example": msgspec.json.encode(_EVENT).decode(),
        },
    }


def _responses() -> dict[str, Any]:
    return {
        "200": _answer("Verdicts of a dry run.", {"accepted": 1, "rejected": [_REJECTION]}),
        "202": _answer("Every event is durably in the event log.", {"accepted": 2, "rejected": []}),
        "207": _answer("Some were accepted, some rejected.", {"accepted": 1, "rejected": [_REJECTION]}),
        "400": _problem("The body cannot be read, or the one event has a bad envelope."),
        "401": _problem("No valid key.", headers=_CHALLENGE),
        "403": _problem("The key's product may not write these events, or the key may not write."),
        "405": _problem("Only POST.", headers={"Allow": {"schema": {"type": "string"}}}),
        "408": _problem("The body did not arrive in time."),
        "413": _problem("The body, or every event, is too large."),
        "415": _problem("The media type or encoding is none of those above."),
        "422": _problem("Readable, but no event was accepted.", schema=_REFUSAL),
        "429": _problem(
            "The product sends more events, or more that are refused, than its rate allows.",
            headers=_RETRY_AFTER,
        ),
        "431": _problem("The head of the request is too large, or has too many headers."),
        "503": _problem("Not now: send the same ids again.", headers=_RETRY_AFTER),
    }


def _answer(description: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Answer"}, "example": example}
    return {"description": description, "content": {"application/json": content}}


def _problem(
    description: str, *, schema: dict[str, Any] | None = None, headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    schema = schema or {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {"description": description, "content": {PROBLEM_JSON: {"schema": schema}}}
    return response | ({"headers": headers} if headers else {})
