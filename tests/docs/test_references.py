"""What the documents name is there, by that name: files, tests, commands, settings, metrics, verdicts."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
import typer
from prometheus_client import CollectorRegistry

from docs import reference
from examples.flights import flights
from impact_aggregator.exporter import PipelineMetrics
from impact_cli.http_heads import HeadLimits
from impact_cli.main import app
from impact_cli.settings import PREFIX, Settings
from impact_ingest.limits import Limits
from impact_ingest.metrics import DoorMetrics
from impact_ingest.verdicts import CODES
from impact_schemas import wording
from tests.docs.documents import ALL_DOCUMENTS, blocks, prose, read, table
from tests.rig.servers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = re.compile(r"\]\(([^)\s]+)\)")
FOUND_WHEN_COUNTED = {"factor_missing", "id_conflict", "too_many_segments", "unknown_target"}


def anchors(document: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(read(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", ALL_DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    folder = (REPOSITORY / document).parent
    for target in LINK.findall(prose(read(document))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else REPOSITORY / document
        assert file.exists(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(str(file.relative_to(REPOSITORY))), f"{document} links to {target}"


def test_every_guard_that_is_named_is_a_test() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read("ARCHITECTURE.md"))
    assert len(named) > 30
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in read(file)]
    assert missing == []


@pytest.mark.parametrize("document", reference.FILES)
def test_generated_parts_are_those_of_the_code(document: str) -> None:
    text = read(document)
    assert reference.filled(text) == text, "run: python -m docs.reference"


def commands(group: Any, name: str) -> Iterator[str]:
    for command, inner in getattr(group, "commands", {}).items():
        yield f"{name} {command}"
        yield from commands(inner, f"{name} {command}")


@pytest.mark.parametrize("document", ALL_DOCUMENTS)
def test_every_command_and_option_that_is_named_exists(document: str) -> None:
    root = typer.main.get_command(app)
    known = set(commands(root, "impact"))
    for text in re.findall(r"`(impact [a-z][^`]*)`", prose(read(document))):
        words = re.match(r"impact [a-z]+( [a-z]+)?", text)
        assert words is not None
        named = words[0] if words[0] in known else words[0].rpartition(" ")[0]
        assert named in known, f"{document}: `{text}`"
        command: Any = root
        for word in named.split()[1:]:
            command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", text)) <= options, f"{document}: `{text}`"


def defaults(rows: list[list[str]]) -> dict[str, str]:
    return {row[0].strip("`"): row[1].strip("`") for row in rows}


def test_the_settings_are_those_of_the_code() -> None:
    told = defaults(table(read("docs/ops.md"), "## Settings"))
    known = {
        PREFIX + name.upper(): "none" if field.default is None else str(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert told == known | {"IMPACT_CATALOG": "./catalog"}


def test_the_limits_are_those_of_the_code() -> None:
    told = defaults(table(read("docs/ops.md"), "### Limits of the door"))
    limits = (*fields(Limits), *fields(HeadLimits))
    assert told == {PREFIX + field.name.upper(): str(field.default) for field in limits}


def test_the_metrics_are_those_that_are_exported() -> None:
    registry = CollectorRegistry()
    PipelineMetrics(registry)
    DoorMetrics(registry, lambda: 0)
    exported = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    assert {row[0].strip("`") for row in table(read("docs/ops.md"), "## Watching")} == exported


def test_the_verdicts_are_those_of_the_services() -> None:
    told = {row[0].strip("`") for row in table(read("docs/backends.md"), "### Verdicts")}
    assert told == set(CODES) | FOUND_WHEN_COUNTED


def test_the_demo_prints_what_the_readme_shows() -> None:
    """The numbers that come from the flights themselves; the service's own are checked end to end."""
    document = read("README.md")
    (shown,) = [block.text for block in blocks(document) if flights.TITLE in block.text]
    events = list(flights.events())
    data = [event["data"] for event in events]
    flown = [one for one in data if not one["cancelled"]]
    expected = {
        "Flights scheduled": len(data),
        "Flights flown": len(flown),
        "Flights cancelled": len(data) - len(flown),
        "Distance flown": sum(one["distance_km"] for one in flown),
        "CO2e emitted": sum(one["co2e_kg"] for one in flown),
    }
    for title, value in expected.items():
        line = rf"^ *{re.escape(title)} +no data +{re.escape(wording.number(value))} "
        assert re.search(line, shown, re.MULTILINE), f"{title}: {value}"
    aircraft = {event["subject"] for event in events if "subject" in event}
    assert f"There are {len(aircraft):,}." in " ".join(document.split())
